"""Gates: how much of a message every region and every word takes in.

CAMP (Wang et al., ICCV 2019), section 4.4 and Fig. 5: gate values of the regions and words of a
pair, and the mean gate of pairs that belong together against that of pairs that do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import ismethod
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.explain.attention import encode_rows, evaluating
from visavis.explain.explanation import Array
from visavis.explain.interval import Mean, mean_of
from visavis.explain.leave_out import Encode, finite
from visavis.explain.true_and_false import TrueAndFalse
from visavis.explain.words import whole_words
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, SentenceBatch

SIDES = ("regions", "words")


@runtime_checkable
class Gated(Protocol):
    """A model in which gates decide how much of a message a fragment takes in."""

    def gates(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """Gates of aligned rows, from 0 to 1: `regions` (P, R) and `words` (P, W)."""
        ...


def is_gated(model: object) -> bool:
    """Whether a model is `Gated`: layers of that name are no answer."""
    return isinstance(model, Gated) and ismethod(model.gates)


def check_gated(pretrained: Pretrained) -> None:
    """Refuse a model without gates.

    Raises:
        DataError: it has none.
    """
    if not is_gated(pretrained.model):
        raise DataError(f"{pretrained.name} has no gates to show; ask a model with gates")


@dataclass(frozen=True, slots=True, eq=False)
class GatedPair:
    """The gates of one picture with one sentence."""

    image: str  # its id
    picture: Path | None
    sentence: str
    right: bool | None  # whether they belong together; None: nobody knows
    score: float
    words: tuple[str, ...]  # W, end marks included
    word_gates: Array  # (W,)
    boxes: Array | None  # (R, 4) as fractions; None where the vectors have none
    region_gates: Array  # (R,)


@dataclass(frozen=True, slots=True)
class MeanGates:
    """Mean gates of pairs that belong together, of pairs that do not, and how far apart they are.

    A pair counts by the mean over its fragments; the interval is that of drawing images anew.
    """

    true: Mean
    false: Mean
    difference: Mean  # of a true pair and the false one of the same image


@torch.inference_mode()
def gates_of(
    pretrained: Pretrained, image: ImageBatch, text: str, *, encode: Encode | None = None
) -> tuple[tuple[str, ...], Mapping[str, Array], float]:
    """Words, gates by side, and the score of one image with one sentence.

    A word that the tokenizer cut into pieces gets the mean of theirs.

    Raises:
        DataError: a model without gates, or a score that is not finite.
    """
    check_gated(pretrained)
    sentence = (encode or pretrained.tokenizer.encode)([text])
    with evaluating(pretrained.model) as model:
        encoded = encode_rows(model, image, sentence)
        found = cast("Gated", model).gates(*encoded)
        score = float(finite(model.score_pairs(*encoded).t2i)[0])
    words, pieces = whole_words(pretrained.tokenizer.tokens(text))
    tokens = _numbers(found["words"])[0][sentence.mask[0].cpu().numpy()]
    regions = _numbers(found["regions"])[0][image.mask[0].cpu().numpy()]
    of_words = np.array([tokens[place].mean() for place in pieces], np.float32)
    return tuple(words), {"regions": regions, "words": of_words}, score


@torch.inference_mode()
def pair_means(
    pretrained: Pretrained, images: ImageBatch, sentences: SentenceBatch
) -> Mapping[str, Array]:
    """The mean gate of each of P aligned pairs, by side: (P,) over what is real."""
    with evaluating(pretrained.model) as model:
        found = cast("Gated", model).gates(*encode_rows(model, images, sentences))
    masks = {"regions": images.mask, "words": sentences.mask}
    means = {}
    for side, mask in masks.items():
        real = mask.cpu().numpy()
        means[side] = (_numbers(found[side]) * real).sum(axis=1) / real.sum(axis=1)
    return means


def compare_means(values: Array, pairs: TrueAndFalse, *, seed: int) -> MeanGates:
    """True pairs against false ones.

    Args:
        values: (2 P,) the mean gate of each pair.
        pairs: which belong together; place p and place P + p have the same image.
        seed: of the resampling.
    """
    half = len(values) // 2
    true, false, units = values[:half], values[half:], pairs.units[:half]
    return MeanGates(
        mean_of(true, units, seed=seed),
        mean_of(false, units, seed=seed),
        mean_of(true - false, units, seed=seed),
    )


def _numbers(values: Tensor) -> Array:
    found: Array = values.float().cpu().numpy()
    return found
