"""How often a word's most attended region shows what the word stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.data.scenes import SentenceAlignment
from visavis.errors import DataError
from visavis.explain.attention import Explanation
from visavis.explain.words import is_special
from visavis.extract.boxes import iou

OVERLAP = 0.5

Rule = Literal["centre", "overlap"]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Localisation:
    """Pointing accuracy over the aligned words of many sentences."""

    attended: float  # share of words whose most attended region is right
    chance: float  # the same for a region drawn at random: mean share of right regions
    words: int


def localisation(
    explanations: Sequence[Explanation],
    alignments: Sequence[SentenceAlignment],
    rule: Rule = "centre",
) -> Localisation:
    """Compare attention with what the words are known to stand for.

    A region is right when its centre lies in a box of what the word stands for, or (`overlap`)
    when it overlaps one by at least half (IoU). Words that stand for nothing do not count.

    Args:
        explanations: of true pairs, by attention.
        alignments: of the same sentences, in the same order.
        rule: what makes a region right.

    Raises:
        DataError: another sentence, weights that are not attention, or no aligned word.
    """
    if len(explanations) != len(alignments):
        raise DataError(f"{len(explanations)} explanations, {len(alignments)} alignments")
    attended: list[bool] = []
    chance: list[float] = []
    for explanation, alignment in zip(explanations, alignments, strict=True):
        for position, truth in _aligned(explanation, alignment):
            right = right_regions(explanation.boxes, truth, rule)
            attended.append(bool(right[explanation.weights[position].argmax()]))
            chance.append(float(right.mean()))
    if not attended:
        raise DataError("none of the sentences has a word that is known to stand for something")
    return Localisation(float(np.mean(attended)), float(np.mean(chance)), len(attended))


def right_regions(boxes: Array, truth: Array, rule: Rule = "centre") -> NDArray[np.bool_]:
    """Which regions show one of some true boxes: (R, 4), (K, 4) to (R,).

    >>> whole, left = [0, 0, 1, 1], [0, 0, 0.4, 1]
    >>> right_regions(np.array([whole, left]), np.array([[0, 0, 0.45, 1]])).tolist()
    [False, True]
    """
    if rule == "overlap":
        right: NDArray[np.bool_] = iou(boxes, truth) >= OVERLAP  # (R, K)
    else:
        centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # (R, 1, 2)
        low, high = centres >= truth[None, :, :2], centres <= truth[None, :, 2:]
        right = np.all(low & high, axis=2)  # (R, K)
    found: NDArray[np.bool_] = np.any(right, axis=1)
    return found


def _aligned(explanation: Explanation, alignment: SentenceAlignment) -> Iterator[tuple[int, Array]]:
    """Position in the explanation and true boxes of each word that stands for something."""
    if explanation.kind != "attention":
        raise DataError("only attention has weights for each word; this model has none")
    words = explanation.words
    unknown = {"[UNK]", "<unk>"}
    spoken = [i for i, word in enumerate(words) if word in unknown or not is_special(word)]
    # The tokenizer may have cut a long sentence: what it kept is a beginning.
    for number, (position, word) in enumerate(zip(spoken, alignment.words, strict=False)):
        if words[position].lower() != word.lower() and words[position] not in unknown:
            raise DataError(
                f"word {number} is {words[position]!r} in the explanation and {word!r} in the "
                "alignment; give both the same sentences in the same order"
            )
        if alignment.objects[number]:
            yield position, alignment.boxes_of(number)
