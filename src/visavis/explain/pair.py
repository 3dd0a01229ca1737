"""Everything that a model said of one picture with one sentence, and its JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.config import build, plain
from visavis.errors import DataError, RecipeError
from visavis.explain.explanation import Array, Explanation, Kind, content_words
from visavis.explain.parts import RELATIONS
from visavis.files import read_json, write_json

FORMAT = "visavis-explanation"
DIGITS = 6  # of weights in a file

Numbers = tuple[float, ...]
Rows = tuple[Numbers, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One picture with one sentence, explained."""

    model: str
    image: str  # its id
    picture: Path | None  # its file, where there is one
    sentence: str
    explanation: Explanation
    relations: Mapping[str, Array] = field(default_factory=dict)  # by name of RELATIONS
    selected: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)  # positions in boxes


@dataclass(frozen=True, kw_only=True)
class PairFile:
    """What stands in the JSON file of a pair; a file that is read is checked against this."""

    format: Literal["visavis-explanation"]
    version: Literal[1]
    model: str
    image: str  # id in its corpus, or the name of its file
    picture: str | None  # the file
    sentence: str
    score: float  # the one that ranks images for a sentence
    kind: Kind  # what the weights mean
    words: tuple[str, ...]  # W
    content_words: tuple[int, ...]  # positions of the words that can stand for something
    boxes: tuple[tuple[float, float, float, float], ...]  # R of x1 y1 x2 y2, fractions
    weights: Rows  # W of R numbers
    relations: dict[str, Rows]  # by name: ROWS_COLUMNS, rows look at columns
    selected: dict[str, tuple[int, ...]]  # by part of the model: positions of boxes

    def __post_init__(self) -> None:
        sides = {"words": len(self.words), "regions": len(self.boxes)}
        _check_shape("weights", self.weights, sides["words"], sides["regions"])
        for name, rows in self.relations.items():
            if name not in RELATIONS:
                raise ValueError(f"relation {name!r} is not known; known: {', '.join(RELATIONS)}")
            _check_shape(f"relations.{name}", rows, *(sides[side] for side in RELATIONS[name]))
        places = [("content_words", self.content_words, sides["words"])]
        places += [
            (f"selected.{k}", chosen, sides["regions"]) for k, chosen in self.selected.items()
        ]
        for name, chosen, count in places:
            if not set(chosen) <= set(range(count)):
                raise ValueError(f"{name} {list(chosen)}: positions must be 0 to {count - 1}")


def _check_shape(name: str, rows: Rows, height: int, width: int) -> None:
    if len(rows) != height or any(len(row) != width for row in rows):
        raise ValueError(f"{name} must be {height} rows of {width} numbers")


def pair_values(pair: Pair) -> dict[str, object]:
    """A pair as JSON values."""
    found = pair.explanation
    values: dict[str, object] = plain(
        PairFile(
            format="visavis-explanation",
            version=1,
            model=pair.model,
            image=pair.image,
            picture=None if pair.picture is None else str(pair.picture),
            sentence=pair.sentence,
            score=round(found.score, DIGITS),
            kind=found.kind,
            words=found.words,
            content_words=content_words(found),
            boxes=tuple((b[0], b[1], b[2], b[3]) for b in _rounded(found.boxes)),
            weights=_rounded(found.weights),
            relations={name: _rounded(rows) for name, rows in pair.relations.items()},
            selected={name: tuple(chosen.tolist()) for name, chosen in pair.selected.items()},
        )
    )
    return values


def _rounded(numbers: Array) -> Rows:
    # As float64 first: 0.1 is written as 0.1 and not as 0.10000000149.
    return tuple(map(tuple, np.round(numbers.astype(np.float64), DIGITS).tolist()))


def write_pair(pair: Pair, path: Path) -> None:
    """Write a pair as JSON, atomically."""
    write_json(path, pair_values(pair))


def read_pair(path: Path) -> Pair:
    """Read what `write_pair` wrote.

    Raises:
        DataError: no such file, or one that is not as it was written.
    """
    try:
        found = build(PairFile, read_json(path), "explanation")
    except RecipeError as error:
        raise DataError(f"{path}: {error}; explain the pair again") from error
    boxes = np.array(found.boxes, np.float32).reshape(-1, 4)
    explanation = Explanation(
        found.words, boxes, _matrix(found.weights, len(boxes)), found.score, found.kind
    )
    sides = {"words": len(found.words), "regions": len(boxes)}
    return Pair(
        model=found.model,
        image=found.image,
        picture=None if found.picture is None else Path(found.picture),
        sentence=found.sentence,
        explanation=explanation,
        relations={
            name: _matrix(rows, sides[RELATIONS[name][1]]) for name, rows in found.relations.items()
        },
        selected={name: np.array(chosen, np.int64) for name, chosen in found.selected.items()},
    )


def _matrix(rows: Rows, width: int) -> Array:
    return np.array(rows, np.float32).reshape(-1, width)
