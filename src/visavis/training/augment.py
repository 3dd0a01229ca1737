"""Leaving out regions and words while training, so that no match rests on a single one.

Chen et al. 2021 (VSE-infinity, section 4.1) call it size augmentation. Draws come from the global
torch generator, as those of dropout do, so a training state holds what repeats them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from visavis.types import ImageBatch, SentenceBatch


def drop_regions(images: ImageBatch, share: float) -> ImageBatch:
    """Leave each region out with a probability; every image keeps at least one."""
    if share == 0:
        return images
    kept = images.mask & (torch.rand(images.mask.shape, device=images.mask.device) >= share)
    return ImageBatch(images.regions, _at_least_one(kept, images.mask), images.boxes)


def drop_words(sentences: SentenceBatch, share: float) -> SentenceBatch:
    """Leave each inner token out with a probability and close the gaps.

    The first and the last token stay: they are the marks of a sentence's ends.
    """
    if share == 0:
        return sentences
    mask = sentences.mask
    ends = torch.zeros_like(mask)
    ends[:, 0] = True
    ends[torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1] = True
    kept = mask & ((torch.rand(mask.shape, device=mask.device) >= share) | ends)
    order = (~kept).byte().argsort(dim=1, stable=True)  # kept tokens first, in their order
    width = int(kept.sum(dim=1).max())
    order = order[:, :width]
    closed = kept.gather(1, order)
    states = sentences.states
    if states is not None:
        states = states.gather(1, order[:, :, None].expand(-1, -1, states.shape[2]))
        states = states * closed[:, :, None]
    return SentenceBatch(sentences.ids.gather(1, order) * closed, closed, states)


def _at_least_one(kept: Tensor, mask: Tensor) -> Tensor:
    """Where nothing is kept, keep everything."""
    return torch.where(kept.any(dim=1, keepdim=True), kept, mask)
