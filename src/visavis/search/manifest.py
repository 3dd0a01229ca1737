"""`index.json`: what an index was built with, and what it therefore goes with.

A generation is a table of rows that one model made. There is one in use; while a new model's is
built beside it, that one is in use still. Which one counts is a number in this file, so a switch is
one atomic write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from visavis import __version__
from visavis.config import build, plain
from visavis.data.features import FeatureIdentity
from visavis.errors import IndexError_, RecipeError
from visavis.search.rows import ArraySpec

FORMAT = 1
FILE = "index.json"


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model: where it was, and the hash that tells it from others."""

    source: str  # folder or hub name
    name: str  # in the table of models
    digest: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far the best score of a sentence stands out when nothing fits it.

    Distances are in standard deviations of the scores of the same sentence with pictures taken at
    random, so that long and short sentences compare.
    """

    sentences: int  # that were asked, each without the pictures that belong to it
    quantiles: tuple[float, ...]  # 5, 10, 25, 50, 75, 90, 95 percent
    reference: int  # pictures taken at random


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """As `AgreementPoint`."""

    candidates: int
    same_top10: float
    overlap: float
    top1: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `verify` found last."""

    sentences: int
    gallery: int
    recommended: int | None
    points: tuple[MeasuredPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The table of rows that one model made."""

    model: ModelPlace
    companions: dict[str, ModelPlace]  # by the part of a space that they make
    spaces: dict[str, str]  # direction: space of the first stage, its parts joined by _
    features: FeatureIdentity
    weights: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of parts, by direction
    arrays: dict[str, ArraySpec]  # of a row; empty until the first was made
    finished: bool = False
    calibration: Calibration | None = None
    measured: Measured | None = None


@dataclass(frozen=True, kw_only=True)
class RootPlace:
    """A folder that pictures lie in."""

    path: str
    whole: bool = True  # every picture below it belongs to the index, new ones too


@dataclass(frozen=True, kw_only=True)
class CorpusPlace:
    """A corpus with region vectors."""

    data: str
    features: str
    split: str = "all"
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole file."""

    format: int = FORMAT
    visavis: str = __version__
    current: int = 1  # the generation in use
    generations: dict[str, Generation] = field(default_factory=dict)
    roots: dict[str, RootPlace] = field(default_factory=dict)
    corpus: CorpusPlace | None = None
    weights: str | None = None  # folder of the extractor's weights
    sentences: str | None = None  # file of the sentence bank

    @property
    def generation(self) -> Generation:
        """The one in use."""
        return self.generations[str(self.current)]

    def with_generation(self, number: int, generation: Generation) -> Manifest:
        """The same with one generation put in."""
        return replace(self, generations={**self.generations, str(number): generation})

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = plain(self)
        return values


def parse(values: object, where: str) -> Manifest:
    """A manifest from what `index.json` holds.

    Raises:
        IndexError_: a newer format, or a damaged file.
    """
    version = values.get("format") if isinstance(values, Mapping) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise IndexError_(f"{where}: not an index; {FILE} has no format version")
    if version > FORMAT:
        raise IndexError_(
            f"{where}: built in format {version} by a newer visavis; this one reads up to "
            f"{FORMAT}, update it"
        )
    try:
        made = build(Manifest, values, FILE)
        _ = made.generation
    except (RecipeError, KeyError) as error:
        raise IndexError_(f"{where}: {FILE} is damaged ({error}); build the index anew") from error
    return made


def refuse_other_model(where: str, wanted: ModelPlace, got: ModelPlace) -> None:
    """Compare the model that an index was built with and the one that is there.

    Raises:
        IndexError_: they are not the same.
    """
    if wanted.digest != got.digest:
        raise IndexError_(
            f"{where}: built with {wanted.name} {wanted.digest[:12]} ({wanted.source}), not with "
            f"{got.name} {got.digest[:12]} ({got.source}); give that model, or build again with "
            "this one: `visavis index build` makes it beside the old one and then switches"
        )


def refuse_other_features(where: str, wanted: FeatureIdentity, got: FeatureIdentity) -> None:
    """Compare region vectors.

    Raises:
        IndexError_: they come from another extractor.
    """
    if (wanted.extractor, wanted.digest) != (got.extractor, got.digest):
        raise IndexError_(
            f"{where}: the model reads vectors of {wanted.extractor} {wanted.digest[:12]}, these "
            f"are of {got.extractor} {got.digest[:12]}; give vectors of the same extractor"
        )
