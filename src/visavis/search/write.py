"""What changes an index after it was built."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from visavis.config import plain
from visavis.errors import DataError, IndexError_, VisavisError
from visavis.search.answers import Agreement, CompactReport, Report
from visavis.search.bank import corpus_bank
from visavis.search.build import bring_up, open_supply, open_target
from visavis.search.manifest import Manifest, Measured, MeasuredPoint
from visavis.search.opening import made_by, update
from visavis.search.place import Place
from visavis.search.roots import items_of_files, key_of, with_files
from visavis.search.supply import CorpusSupply, Item, Supply, open_extractor
from visavis.search.sync import sync
from visavis.search.view import View

logger = logging.getLogger("visavis.search")

Progress = Callable[[int, int], None]

FRAGMENTS, VERSIONS = 48, 128  # a table with more is compacted after a write


def add_files(
    place: Place,
    view: View,
    paths: Sequence[Path],
    *,
    tags: Sequence[str],
    progress: Progress | None = None,
) -> Report:
    """Add pictures, or whole folders of them; those that are there get the tags.

    Raises:
        DataError: a path that is no picture, or a model whose vectors no extractor makes.
        StorageError: no room.
    """
    manifest, files = with_files(view.manifest, paths)
    supply = _supply_for_files(view)
    if manifest.roots != view.manifest.roots:
        manifest = update(place, lambda now: with_files(now or manifest, paths)[0])
    items, links = items_of_files(manifest, files, tags)
    if isinstance(supply, CorpusSupply):
        items = _with_rows(supply, manifest, items)
    target = open_target(place, manifest, manifest.current, view.engine)
    report = sync(target, supply, items, whole=lambda _: False, progress=progress)
    return replace(report, skipped=[*links, *report.skipped])


def sync_all(
    place: Place, view: View, *, workers: int = 1, progress: Progress | None = None
) -> Report:
    """Bring an index in line with the folders or the corpus that it was built from.

    Raises:
        DataError: a folder that is not there.
        StorageError: no room; the same call goes on.
    """
    supply = open_supply(view.manifest, view.engine, workers=workers)
    target = open_target(place, view.manifest, view.manifest.current, view.engine)
    report = bring_up(target, view.manifest, supply, progress=progress)
    if isinstance(supply, CorpusSupply) and (report.added or report.removed):
        bank = corpus_bank(view.engine, supply.corpus, target.store.records())
        place.put_sentences(view.manifest.current, bank)
    return report


def watch(sync: Callable[[], Report], interval: float, stop: threading.Event) -> None:
    """Call it again and again until told to stop; what goes wrong is logged."""
    while not stop.is_set():
        try:
            report = sync()
        except VisavisError as error:
            logger.warning("sync: %s", error)
        else:
            counts = (report.added, report.changed, report.removed)
            if any(counts):
                logger.info("sync: %d added, %d changed, %d removed", *counts)
        stop.wait(interval)


def note_agreement(place: Place, view: View, found: Agreement) -> None:
    """Write what `verify` found into the manifest.

    Raises:
        IndexError_: the index has another model by now.
    """
    points = tuple(MeasuredPoint(**plain(point)) for point in found.points)
    measured = Measured(
        sentences=found.sentences,
        gallery=found.gallery,
        recommended=found.recommended,
        points=points,
    )

    def noted(now: Manifest | None) -> Manifest:
        if now is None or not made_by(now.generation, view.engine):
            raise IndexError_(f"{place.uri}: the index was replaced meanwhile")
        return now.with_generation(now.current, replace(now.generation, measured=measured))

    update(place, noted)


def compact(place: Place, view: View) -> CompactReport:
    """Join small fragments, drop old versions and what models of before have left."""
    start = time.monotonic()
    before = view.store.stats()
    view.store.compact()
    numbers = {int(key) for key in view.manifest.generations}
    # A generation with a higher number is being built.
    kept = {number for number in numbers if number >= view.manifest.current}
    if kept != numbers:
        update(place, lambda now: _only(now or view.manifest, kept))
        place.drop(kept)
    after = view.store.stats()
    return CompactReport(
        bytes_before=before.bytes,
        bytes_after=after.bytes,
        versions_before=before.versions,
        versions_after=after.versions,
        seconds=time.monotonic() - start,
    )


def compact_when_due(view: View) -> None:
    """Compact a table of many fragments or versions."""
    stats = view.store.stats()
    if stats.fragments > FRAGMENTS or stats.versions > VERSIONS:
        with contextlib.suppress(VisavisError):  # a later write tries again
            view.store.compact()


def _supply_for_files(view: View) -> Supply:
    features = view.engine.main.features
    if features.extractor != "precomputed":
        weights = view.manifest.weights
        return open_extractor(features, None if weights is None else Path(weights))
    if view.manifest.corpus is None:
        raise DataError(
            "the model reads ready-made vectors, so no picture can be added that has none; "
            "build the index with a model whose regions `visavis extract` makes"
        )
    return open_supply(view.manifest, view.engine)


def _with_rows(supply: CorpusSupply, manifest: Manifest, items: Sequence[Item]) -> list[Item]:
    """Items as the corpus has them; those that it has not stay without a row."""
    known = {(item.root, item.path): item for item in supply.items(key_of(manifest))}
    found = []
    for item in items:
        of_corpus = known.get((item.root, item.path))
        found.append(item if of_corpus is None else replace(of_corpus, tags=item.tags))
    return found


def _only(manifest: Manifest, numbers: set[int]) -> Manifest:
    kept = {key: value for key, value in manifest.generations.items() if int(key) in numbers}
    return replace(manifest, generations=kept)
