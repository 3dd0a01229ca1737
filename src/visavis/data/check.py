"""`visavis data check`: everything that is wrong with a corpus, in one run, a line for each.

A problem makes numbers wrong or reading impossible; a note is worth knowing and harmless. The same
caption twice for one image, or in two splits, is a note: published corpora hold such captions and
their published numbers count them. The same picture in two splits is a problem, except that `test`
of a precomp folder is a part of `testall` by design: never train on one and report the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavis.data.check_features import Source, open_sources, scan_sources
from visavis.data.draft import EMPTY_FAULT, Collect, Draft, first_repeated
from visavis.data.karpathy import dataset_file, draft_karpathy
from visavis.data.open import open_corpus, recognise
from visavis.data.precomp import draft_precomp, open_splits
from visavis.errors import DataError

_WORD = re.compile(r"\w+(?:'\w+)?")
_SHOWN = 60  # characters of a caption in a message


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """How much a split holds."""

    images: int
    sentences: int


@dataclass(frozen=True, kw_only=True)
class SentenceLengths:
    """Words in a sentence: lower-cased runs of letters, digits and an inner apostrophe."""

    shortest: int
    mean: float
    median: float
    longest: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check` found."""

    name: str
    format: str
    splits: Mapping[str, SplitCount]
    sentences_per_image: Mapping[int, int]  # number of sentences: how many images have so many
    vocabulary: int  # different words
    lengths: SentenceLengths
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def check(path: Path, *, progress: Callable[[int, int], None] | None = None) -> Report:
    """Look at every image, sentence and feature row of a corpus; read on after a problem.

    Features are scanned in blocks of bounded memory. `progress` is called with the feature bytes
    scanned so far and their total.

    Raises:
        DataError: no corpus is recognised at the path, or its main file cannot be read at all.
    """
    kind = recognise(path)
    problems, notes = Collect(), Collect()
    draft, sources = _open(path, kind, problems)
    _check_ids(draft, problems)
    _check_leaks(draft, problems, notes)
    _check_sentences(draft, problems, notes)
    _check_pictures(draft, problems, notes)
    scan_sources(draft, sources, problems, notes, progress or _silent)
    if not problems.lines():
        # What is found sound here must be readable there.
        try:
            open_corpus(path)
        except DataError as error:
            problems.add_error(error)
    return _report(draft, kind or "", problems, notes)


def _silent(done: int, total: int) -> None:
    """Show nothing."""


def _open(path: Path, kind: str | None, problems: Collect) -> tuple[Draft, list[Source]]:
    if kind == "karpathy":
        folder = dataset_file(path).parent
        draft = draft_karpathy(path, problems)
        return draft, open_sources(draft, folder, problems)
    if kind == "precomp":
        splits = open_splits(path, problems)
        draft = draft_precomp(path, splits)
        return draft, [Source.of_split(split, draft) for split in splits]
    return Draft.of(open_corpus(path)), []  # raises the error when no format is recognised


def _check_ids(draft: Draft, problems: Collect) -> None:
    for what, ids in (("images", draft.image_ids), ("sentences", draft.sentence_ids)):
        repeated = first_repeated(ids)
        if repeated is not None:
            count = len(ids) - len(set(ids))
            problems.add(f"{draft.name}: {repeated!r}", f"{count} {what} have the id of another")


def _check_leaks(draft: Draft, problems: Collect, notes: Collect) -> None:
    for what, names in (("id", draft.image_keys), ("picture file name", draft.file_names)):
        if what != "id" and draft.file_names == draft.image_keys:
            continue
        seen: dict[str, str] = {}
        for name, split in zip(names, draft.image_splits, strict=False):
            first = seen.setdefault(name, split)
            if not name or first == split:
                continue
            where, both = f"{draft.name}: {name!r}", _both(draft, first, split)
            if {first, split} == {"test", "testall"}:
                notes.add(where, "an image of test is in testall too; report one of them only")
            else:
                problems.add(where, f"the same image (by its {what}) is in {both}")


def _check_sentences(draft: Draft, problems: Collect, notes: Collect) -> None:
    """Empty, repeated and missing sentences."""
    seen: dict[str, str] = {}
    own: set[tuple[int, str]] = set()
    for image, sentence in draft.pairs:
        text, split = draft.texts[sentence], draft.image_splits[image]
        where = f"{draft.name}: sentence {draft.sentence_ids[sentence]!r}"
        if not text.strip():
            problems.add(where, EMPTY_FAULT)
            continue
        if (image, text) in own:
            notes.add(where, "its image has the same caption twice")
        own.add((image, text))
        first = seen.setdefault(text, split)
        if first != split and {first, split} != {"test", "testall"}:
            both = _both(draft, first, split)
            notes.add(f"{draft.name}: {text[:_SHOWN]!r}", f"the same caption is in {both}")
    with_sentence = {image for image, _ in draft.pairs}
    for image, name in enumerate(draft.image_ids):
        if image not in with_sentence:
            problems.add(f"{draft.name}: image {name!r}", "has no sentence")


def _both(draft: Draft, first: str, second: str) -> str:
    """Two splits, always in the same order, so that faults of a kind are counted together."""
    return " and in ".join(sorted((first, second), key=draft.image_splits.index))


def _check_pictures(draft: Draft, problems: Collect, notes: Collect) -> None:
    missing = [i for i, path in enumerate(draft.pictures) if path is None]
    if not draft.pictures or not missing:
        return
    if len(missing) == len(draft.pictures):
        notes.add(draft.name, "no picture files beside the corpus; only features can be used")
        return
    names = draft.file_names or draft.image_ids
    problems.add(
        f"{draft.name}: {names[missing[0]]!r}",
        f"{len(missing)} of {len(draft.pictures)} picture files are missing",
    )


def _report(draft: Draft, kind: str, problems: Collect, notes: Collect) -> Report:
    images = Counter(draft.image_splits)
    sentences = Counter(draft.image_splits[image] for image, _ in draft.pairs)
    per_image = Counter(image for image, _ in draft.pairs)
    vocabulary: set[str] = set()
    lengths = np.zeros(max(1, len(draft.texts)), dtype=np.int64)
    for place, text in enumerate(draft.texts):
        words = _WORD.findall(text.lower())
        vocabulary.update(words)
        lengths[place] = len(words)
    return Report(
        name=draft.name,
        format=kind,
        splits={
            name: SplitCount(images=images[name], sentences=sentences[name]) for name in images
        },
        sentences_per_image=dict(
            sorted(Counter(per_image[i] for i in range(len(draft.image_ids))).items())
        ),
        vocabulary=len(vocabulary),
        lengths=SentenceLengths(
            shortest=int(lengths.min()),
            mean=float(lengths.mean()),
            median=float(np.median(lengths)),
            longest=int(lengths.max()),
        ),
        problems=problems.lines(),
        notes=notes.lines(),
    )
