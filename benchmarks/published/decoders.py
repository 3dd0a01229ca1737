"""DCPA: one sentence after the other with each image, both decoders run whole on each pair.

No code was published. The decoder's first sub-layer, which knows one item alone, is made anew for
every pair, and so are queries, keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visavis.layers.norm import l2norm
from visavis.types import Encoded, Scores


def score(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """W1 Intra-PAM + W2 Inter-PAM of every pair, one matrix for each direction."""
    config, regions, seen = model.config, images.tokens, images.mask
    columns: list[tuple[Tensor, Tensor]] = []
    for place, (tokens, mask) in enumerate(zip(sentences.tokens, sentences.mask, strict=True)):
        words = tokens[mask].repeat(len(images), 1, 1)  # (N, W, D)
        real = torch.ones_like(words[..., 0]).bool()
        rebuilt = model.inter.i2t(regions, seen, words, real)  # i^T
        i2t = best_mean(compared(rebuilt, words, real), seen, config.top_k)
        rebuilt = model.inter.t2i(words, real, regions, seen)  # c^V
        t2i = best_mean(compared(rebuilt, regions, seen), real, config.top_k)
        fits = images.extra["visual"] @ sentences.pooled[place]  # (N, R)
        intra = config.w_intra * best_mean(fits, seen, config.top_k)
        columns.append((intra + config.w_inter * i2t, intra + config.w_inter * t2i))
    both = (torch.stack(side, dim=1) for side in zip(*columns, strict=True))
    return Scores(*both)


def compared(rebuilt: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The largest cosine of each rebuilt token with the real ones of the other side: (N, L)."""
    cosines = torch.bmm(l2norm(rebuilt), l2norm(targets).transpose(1, 2))
    return cosines.masked_fill(~mask.unsqueeze(1), -torch.inf).amax(dim=2)


def best_mean(values: Tensor, mask: Tensor, k: int) -> Tensor:
    """Mean of the k largest real values, or of all where fewer are real: (N,)."""
    values = values.masked_fill(~mask, -torch.inf)
    best = values.topk(min(k, values.shape[1]), dim=1).values
    count = mask.sum(dim=1).clamp(max=k)
    return best.masked_fill(best == -torch.inf, 0.0).sum(dim=1) / count
