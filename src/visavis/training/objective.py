"""Model and loss as one module: a batch goes in, named loss terms come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from visavis.losses import loss_function
from visavis.scoring.active import loss_of_active
from visavis.scoring.matrix import score_stripe
from visavis.training.config import ObjectiveConfig
from visavis.training.freeze import still
from visavis.training.offline import offline_scores, ranking_terms
from visavis.types import (
    Encoded,
    ImageBatch,
    Matcher,
    OwnTerms,
    Scores,
    SentenceBatch,
    TrainingStep,
)

Items = TypeVar("Items", ImageBatch, SentenceBatch, Encoded)


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and sentences of a step: row p of one belongs to row p of the other.

    Behind them may stand mined negatives, P or 2 P items on each side (`visavis.training.offline`).
    """

    images: ImageBatch
    sentences: SentenceBatch
    positives: Tensor  # (P, P) bool

    def __len__(self) -> int:
        return len(self.positives)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.images.to(device), self.sentences.to(device), self.positives.to(device))


class Objective(nn.Module):
    """Scores a batch and measures how wrong the scores are."""

    def __init__(self, model: nn.Module, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.loss = loss_function(config.loss, config.temperature)
        self.warmup = loss_function(config.warmup, config.temperature, key="objective.warmup")

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  (torch's own signature)
        """As ever, but what is wholly frozen stays in evaluation mode."""
        super().train(mode)
        if mode:
            still(self.model)
        return self

    def forward(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Named scalars whose sum is minimised; epochs count from 0.

        `ranking` is the loss of the scores, `offline` that of mined negatives when there are some;
        a model with terms of its own adds them.
        """
        matcher = self.model
        if not isinstance(matcher, Matcher):
            raise TypeError(f"{type(matcher).__name__} does not follow the Matcher protocol")
        images, sentences = self._encoded(matcher, batch)
        pairs = len(batch)
        # Precision ends here: scores, softmax and losses are float32.
        with torch.autocast(device_type=images.tokens.device.type, enabled=False):
            images, sentences = _float(images), _float(sentences)
            own = _first(images, pairs), _first(sentences, pairs)
            positives = self._positives(batch)
            if self._uses_mined(epoch):
                scores = score_stripe(matcher, *own, recompute=self.config.recompute)
                offline = offline_scores(matcher, images, sentences, pairs)
                terms = ranking_terms(scores, positives, offline, self.config, self.loss)
            else:
                terms = {"ranking": self._ranking(matcher, own, positives, epoch)}
            if isinstance(matcher, OwnTerms):
                given = _first(batch.images, pairs), _first(batch.sentences, pairs)
                step = TrainingStep(*given, *own, positives, epoch)
                terms |= _checked(matcher.own_terms(step))
        return terms

    def _uses_mined(self, epoch: int) -> bool:
        return self.config.offline.used and epoch >= self.config.warmup_epochs

    def _encoded(self, matcher: Matcher, batch: Batch) -> tuple[Encoded, Encoded]:
        """Both sides, mined negatives behind: in one pass, or as published in three.

        Only statistics of batches, as batch normalisation has them, tell the two apart.
        """
        if self.config.offline.variant == "paper" or len(batch.images) == len(batch):
            return matcher.encode_images(batch.images), matcher.encode_sentences(batch.sentences)
        size, count = len(batch), len(batch.images)
        parts = [slice(start, start + size) for start in range(0, count, size)]
        images = [matcher.encode_images(batch.images.select(part)) for part in parts]
        sentences = [matcher.encode_sentences(batch.sentences.select(part)) for part in parts]
        return Encoded.join(images), Encoded.join(sentences)

    def _positives(self, batch: Batch) -> Tensor:
        if self.config.positives == "ground_truth":
            return batch.positives
        return torch.eye(len(batch), dtype=torch.bool, device=batch.positives.device)

    def _ranking(
        self, matcher: Matcher, own: tuple[Encoded, Encoded], positives: Tensor, epoch: int
    ) -> Tensor:
        loss = self.warmup if epoch < self.config.warmup_epochs else self.loss

        def of(scores: Scores) -> Tensor:
            return loss(scores, positives, self.config.margin)

        if self.config.active_only:
            return loss_of_active(matcher, *own, of)
        return of(score_stripe(matcher, *own, recompute=self.config.recompute))


def _first(items: Items, count: int) -> Items:
    """The items of the pairs, without mined ones behind them."""
    return items if len(items) == count else items.select(slice(0, count))


def _checked(terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, value in terms.items():
        if name in ("loss", "ranking", "offline") or value.dim() > 0:
            raise ValueError(f"own term {name!r}: expected a scalar not named loss or ranking")
    return terms


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
        """Whether so many ranking losses in a row have stood at the collapsed level."""
        collapsed = self.level * batch_size  # 0 without a margin, when nothing can be told
        self.recent.append(abs(loss - collapsed) < self.tolerance * collapsed)
        full = len(self.recent) == self.recent.maxlen
        return full and all(self.recent)
