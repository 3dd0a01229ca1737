"""Settings of mining."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from visavis.data.corpus import Corpus
from visavis.data.negatives import is_published
from visavis.data.offline import DrawConfig

PREVIOUS = "previous"
POOLED = "pooled"


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """How long the lists are."""

    h: int = 300  # sentences of an image
    images: int = 0  # images of a sentence; 0: h divided by the sentences of an image

    def __post_init__(self) -> None:
        if self.h < 1 or self.images < 0:
            raise ValueError(
                f"h must be at least 1 and images at least 0, got {self.h}, {self.images}"
            )

    def lengths(self, corpus: Corpus) -> tuple[int, int]:
        """Sentences of an image and images of a sentence, as many as the corpus may give."""
        images, sentences = len(corpus.image_ids), len(corpus.sentence_ids)
        each = max(1, round(sentences / max(1, images)))
        wanted = self.images or max(1, self.h // each)
        return min(self.h, sentences), min(wanted, images)


@dataclass(frozen=True, kw_only=True)
class MineConfig:
    """Mining before a stage, and what the stage draws of it."""

    by: str = PREVIOUS
    # previous: the best model of the stage before; or another run's or model's folder (a teacher);
    # or a file that was mined before, or a folder with published i2t_*.npy and t2i_*.npy
    h: int = 300  # sentences kept for an image
    images: int = 0  # images kept for a sentence; 0: h divided by the sentences of an image
    first: str = ""  # two steps: `pooled`, or a student's or cheap model's folder finds candidates
    candidates: int = 0  # of the first step, for an image; 0: four for each that is kept
    draw: DrawConfig = field(default_factory=DrawConfig)

    def __post_init__(self) -> None:
        MiningConfig(h=self.h, images=self.images)
        if self.candidates and self.candidates < self.h:
            raise ValueError(f"candidates must be at least h, {self.h}, got {self.candidates}")
        if self.candidates and not self.first:
            raise ValueError("candidates come from a first step; name one with first")

    @property
    def kind(self) -> Literal["previous", "file", "model"]:
        """What `by` names."""
        if self.by == PREVIOUS:
            return "previous"
        path = Path(self.by)
        return "file" if path.is_file() or is_published(path) else "model"
