"""Model and loss as one module: a batch goes in, named loss terms come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visavis.losses import loss_function
from visavis.scoring.matrix import score_stripe
from visavis.training.config import ObjectiveConfig
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and sentences of a step: row p of one belongs to row p of the other."""

    images: ImageBatch
    sentences: SentenceBatch
    positives: Tensor  # (N, M) bool

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.images.to(device), self.sentences.to(device), self.positives.to(device))


class Objective(nn.Module):
    """Scores a batch and measures how wrong the scores are."""

    def __init__(self, model: nn.Module, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.loss = loss_function(config.loss)
        self.warmup = loss_function("sum_hinge")

    def forward(self, batch: Batch, epoch: int) -> Tensor:
        """The loss of a batch, a scalar; epochs count from 0."""
        scores = self._scores(batch)
        positives = batch.positives
        if self.config.positives == "diagonal":
            positives = torch.eye(len(positives), dtype=torch.bool, device=positives.device)
        loss = self.warmup if epoch < self.config.warmup_epochs else self.loss
        value = loss(scores.i2t, positives, self.config.margin)
        if scores.decoupled:
            value = (value + loss(scores.t2i, positives, self.config.margin)) / 2
        return value

    def _scores(self, batch: Batch) -> Scores:
        matcher = self.model
        if not isinstance(matcher, Matcher):
            raise TypeError(f"{type(matcher).__name__} does not follow the Matcher protocol")
        images: Encoded = matcher.encode_images(batch.images)
        sentences: Encoded = matcher.encode_sentences(batch.sentences)
        # Precision ends here: scores, softmax and loss are float32.
        with torch.autocast(device_type=images.tokens.device.type, enabled=False):
            return score_stripe(matcher, _float(images), _float(sentences))


def _float(items: Encoded) -> Encoded:
    return Encoded(
        items.tokens.float(),
        items.mask,
        None if items.pooled is None else items.pooled.float(),
        {k: v.float() if v.is_floating_point() else v for k, v in items.extra.items()},
    )


class CollapseWatch:
    """Notices that all scores have become equal: the loss then stands at 2 * margin a pair.

    With hardest negatives every hinge is exactly the margin when an item's rivals score as it does
    (users of VSE++ report a loss stuck at 51.2 for batches of 128).
    """

    def __init__(self, margin: float, patience: int = 100, tolerance: float = 0.01) -> None:
        self.level = 2 * margin
        self.tolerance = tolerance
        self.recent: deque[bool] = deque(maxlen=patience)

    def see(self, loss: float, batch_size: int) -> bool:
        """Whether so many steps in a row have stood at the collapsed level."""
        collapsed = self.level * batch_size  # 0 without a margin, when nothing can be told
        self.recent.append(abs(loss - collapsed) < self.tolerance * collapsed)
        full = len(self.recent) == self.recent.maxlen
        return full and all(self.recent)
