"""Which images and sentences compete: the protocols of the field, under the names it uses.

A protocol is a list of folds; sentences of a fold compete only within it. A name is refused where
its protocol cannot be kept: a figure called `5x1k` is the mean over five folds, never one of them.
Images are counted in the order of the corpus file, as in published code.

====== =======================================================================================
`full` all images of the split
`1k`   the first 1,000. Flickr30K's test split has just these; of its 1,014 dev images published
       code uses the first 1,000 (5,000 sentences), which this is
`5k`   the first 5,000, which are the whole test split of COCO
`5x1k` those 5,000 as five consecutive folds of 1,000, metrics averaged by column ("COCO 1K")
====== =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from visavis.config import nearest
from visavis.data.corpus import Corpus
from visavis.errors import DataError, RecipeError

FOLD = 1000
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """A split cut into the folds that are evaluated one by one."""

    name: str
    corpus: Corpus  # the images that take part, all folds together
    folds: tuple[Corpus, ...]
    note: str = ""  # what a reader of the figures must know; empty when there is nothing


def make_protocol(name: str, split: Corpus) -> Protocol:
    """Cut a split as a named protocol wants it.

    Args:
        name: one of `PROTOCOLS`.
        split: one split of a corpus, as `Corpus.split` gives it.

    Raises:
        RecipeError: no protocol has this name.
        DataError: the split has too few images to be evaluated under this name.
    """
    if name not in PROTOCOLS:
        raise RecipeError(f"protocol {name!r} is not known; {nearest(name, PROTOCOLS)}")
    if not split.image_ids:
        raise DataError(f"{split.name}: no image to evaluate")
    return PROTOCOLS[name](split)


def _full(split: Corpus) -> Protocol:
    return Protocol("full", split, (split,))


def _first_1k(split: Corpus) -> Protocol:
    corpus = _first(split, FOLD, "1k")
    return Protocol("1k", corpus, (corpus,), _note(split, FOLD))


def _first_5k(split: Corpus) -> Protocol:
    corpus = _first(split, FOLDS * FOLD, "5k")
    return Protocol("5k", corpus, (corpus,), _note(split, FOLDS * FOLD))


def _five_folds(split: Corpus) -> Protocol:
    corpus = _first(split, FOLDS * FOLD, "5x1k")
    starts = range(0, FOLDS * FOLD, FOLD)
    folds = tuple(corpus.select(np.arange(start, start + FOLD)) for start in starts)
    return Protocol("5x1k", corpus, folds, _note(split, FOLDS * FOLD))


PROTOCOLS: dict[str, Callable[[Corpus], Protocol]] = {
    "full": _full,
    "1k": _first_1k,
    "5k": _first_5k,
    "5x1k": _five_folds,
}


def _first(split: Corpus, wanted: int, name: str) -> Corpus:
    have = len(split.image_ids)
    if have >= wanted:
        return split.select(np.arange(wanted))
    reason = f"needs {wanted:,} images, this split has {have:,}"
    if name == "5x1k" and have >= FOLD:
        reason += "; one set of 1,000 is not the mean of five folds: call it `1k`"
    else:
        reason += "; use `full`"
    raise DataError(f"{split.name}: protocol {name!r} {reason}")


def _note(split: Corpus, used: int) -> str:
    have = len(split.image_ids)
    return "" if have == used else f"the first {used:,} of {have:,} images, in file order"
