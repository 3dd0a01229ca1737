"""How often the region of a word's largest weight shows what the word stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.data.scenes import SentenceAlignment
from visavis.errors import DataError
from visavis.explain.explanation import Array, Explanation
from visavis.explain.words import is_special
from visavis.extract.boxes import iou

OVERLAP = 0.5

Rule = Literal["centre", "overlap"]


@dataclass(frozen=True, slots=True)
class Localisation:
    """Pointing accuracy over the aligned words of many sentences."""

    attended: float  # share of words whose region of largest weight is right
    chance: float  # the same for a region drawn at random: mean share of right regions
    words: int


def localisation(
    explanations: Sequence[Explanation],
    alignments: Sequence[SentenceAlignment],
    rule: Rule = "centre",
) -> Localisation:
    """Compare the weights of words with what these are known to stand for.

    A region is right when its centre lies in a box of what the word stands for, or (`overlap`)
    when it overlaps one by at least half (IoU). Words that stand for nothing do not count.

    Args:
        explanations: of true pairs, by attention or interaction.
        alignments: of the same sentences, in the same order.
        rule: what makes a region right.

    Raises:
        DataError: another sentence, weights that are not of single words, or no aligned word.
    """
    pointed = _points(explanations, alignments, rule)
    if not pointed:
        raise DataError("none of the sentences has a word that is known to stand for something")
    return _mean(pointed)


def localisation_by(
    explanations: Sequence[Explanation],
    alignments: Sequence[SentenceAlignment],
    group_of: Callable[[str], str],
    rule: Rule = "centre",
) -> dict[str, Localisation]:
    """The same for each group of words, such as colours, in order of their names.

    Args:
        explanations: as for `localisation`.
        alignments: as for `localisation`.
        group_of: the group of a word in lower case.
        rule: what makes a region right.

    Raises:
        DataError: as for `localisation`.
    """
    groups: dict[str, list[_Point]] = {}
    for point in _points(explanations, alignments, rule):
        groups.setdefault(group_of(point.word), []).append(point)
    return {name: _mean(groups[name]) for name in sorted(groups)}


@dataclass(frozen=True, slots=True)
class _Point:
    """One aligned word."""

    word: str
    right: bool
    chance: float


def _points(
    explanations: Sequence[Explanation], alignments: Sequence[SentenceAlignment], rule: Rule
) -> list[_Point]:
    if len(explanations) != len(alignments):
        raise DataError(f"{len(explanations)} explanations, {len(alignments)} alignments")
    points = []
    for explanation, alignment in zip(explanations, alignments, strict=True):
        for position, word, truth in _aligned(explanation, alignment):
            right = right_regions(explanation.boxes, truth, rule)
            weights = explanation.weights[position]
            hit = bool(right[weights == weights.max()].all())  # ties lose
            points.append(_Point(word, hit, float(right.mean())))
    return points


def _mean(points: Sequence[_Point]) -> Localisation:
    right = float(np.mean([point.right for point in points]))
    return Localisation(right, float(np.mean([point.chance for point in points])), len(points))


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


def _aligned(
    explanation: Explanation, alignment: SentenceAlignment
) -> Iterator[tuple[int, str, Array]]:
    """Position in the explanation, word and true boxes of each that stands for something."""
    if explanation.kind == "ablation":
        raise DataError(
            "leaving out regions alone has no weights for each word; ask for attention or "
            "interaction"
        )
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
            yield position, word.lower(), alignment.boxes_of(number)
