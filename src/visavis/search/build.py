"""Building an index: anew, going on with one, or with a new model beside the one in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from visavis.errors import DataError
from visavis.search.answers import Report
from visavis.search.bank import corpus_bank, file_bank
from visavis.search.engine import Engine
from visavis.search.fit import fit_weights
from visavis.search.manifest import Generation, Manifest
from visavis.search.measure import calibrate
from visavis.search.opening import made_by, open_view, read_manifest, update
from visavis.search.place import Place
from visavis.search.roots import all_items, with_source
from visavis.search.rows import (
    BOXES,
    REAL,
    REGIONS,
    Record,
    Rows,
    images_of,
    specs_of,
)
from visavis.search.source import FolderSource, Source
from visavis.search.supply import CorpusSupply, Supply, open_corpus_supply, open_extractor
from visavis.search.sync import BATCH, Target, sync
from visavis.types import ImageBatch

Progress = Callable[[int, int], None]


def build(
    place: Place, engine: Engine, source: Source, *, progress: Progress | None = None
) -> Report:
    """Bring an index to where it holds a source by a model, from wherever it stands.

    Raises:
        DataError: no pictures, or vectors that cannot be had.
        IndexError_: what lies there is of a newer format, or damaged.
        StorageError: no room; what was written stays, and the same call goes on.
    """
    before = read_manifest(place)
    draft = with_source(before or Manifest(), source)
    workers = source.workers if isinstance(source, FolderSource) else 1
    supply = open_supply(draft, engine, workers=workers)
    number = _number(before, engine)
    manifest = update(place, lambda now: _begun(now, source, number, engine, supply))
    target = open_target(place, manifest, number, engine)
    if before is not None and number != manifest.current:
        _carry_over(place, manifest, target)
    report = bring_up(target, manifest, supply, progress=progress)
    finish(place, number, engine, supply)
    return report


def open_supply(manifest: Manifest, engine: Engine, *, workers: int = 1) -> Supply:
    """What has region vectors for the pictures of an index.

    Raises:
        DataError: the extractor or the corpus is not there.
    """
    features = engine.main.features
    if manifest.corpus is not None:
        return open_corpus_supply(manifest.corpus, features)
    weights = None if manifest.weights is None else Path(manifest.weights)
    return open_extractor(features, weights, device=str(engine.device), workers=workers)


def open_target(place: Place, manifest: Manifest, number: int, engine: Engine) -> Target:
    """The table of a generation, to be written to."""
    generation = manifest.generations[str(number)]
    return Target(place.images(number, generation.arrays), generation, engine)


def bring_up(
    target: Target, manifest: Manifest, supply: Supply, *, progress: Progress | None = None
) -> Report:
    """Bring a table in line with the folders or the corpus of its index."""
    corpus = supply if isinstance(supply, CorpusSupply) else None
    items, links = all_items(manifest, target.store.records(), corpus)
    report = sync(target, supply, items, whole=_belongs(corpus), progress=progress)
    skipped = [*links, *report.skipped]
    if skipped and not target.store.stats().rows:
        raise DataError(f"no picture of {len(skipped)} could be used; the first: {skipped[0][1]}")
    return replace(report, skipped=skipped, ids=())


def _belongs(corpus: CorpusSupply | None) -> Callable[[Record], bool]:
    """Whether a picture that is not there any more goes: of a corpus only what came with it."""
    return (lambda _: True) if corpus is None else (lambda record: bool(record.name))


def finish(place: Place, number: int, engine: Engine, supply: Supply | None) -> None:
    """Write the sentence bank, calibrate, and make the generation the one in use."""
    manifest = read_manifest(place) or Manifest()
    generation = manifest.generations[str(number)]
    store = place.images(number, generation.arrays)
    records = store.records()
    if isinstance(supply, CorpusSupply):
        place.put_sentences(number, corpus_bank(engine, supply.corpus, records))
    elif manifest.sentences is not None:
        place.put_sentences(number, file_bank(engine, Path(manifest.sentences)))
    view = open_view(place, replace(manifest, current=number), engine)
    view.warm()
    weights = fit_weights(view)
    calibration = calibrate(replace(view, engine=engine.with_weights(weights)))
    view.arena.close()

    def switched(now: Manifest | None) -> Manifest:
        if now is None:
            raise AssertionError("the manifest was written when the build began")
        known = now.generations[str(number)]
        done = replace(known, finished=True, calibration=calibration, weights=weights)
        return replace(now.with_generation(number, done), current=number)

    update(place, switched)


def _number(manifest: Manifest | None, engine: Engine) -> int:
    """The generation of these models, or the next free one."""
    if manifest is None:
        return 1
    numbers = [int(key) for key in manifest.generations]
    for number in sorted(numbers, reverse=True):
        if made_by(manifest.generations[str(number)], engine):
            return number
    return max(numbers) + 1


def _begun(
    now: Manifest | None, source: Source, number: int, engine: Engine, supply: Supply
) -> Manifest:
    """The manifest with the source taken in and the generation begun."""
    manifest = with_source(now or Manifest(current=number), source)
    known = manifest.generations.get(str(number))
    if known is not None:  # the models may lie elsewhere now
        moved = replace(known, model=engine.main.place, companions=engine.places())
        return manifest.with_generation(number, moved)
    regions, dim, boxes = supply.sizes
    one = ImageBatch(
        torch.ones(1, regions, dim),
        torch.ones(1, regions, dtype=torch.bool),
        torch.zeros(1, regions, 4) if boxes else None,
    )
    generation = Generation(
        model=engine.main.place,
        companions=engine.places(),
        spaces=engine.spaces,
        features=engine.main.features,
        arrays=specs_of(engine.rows(one)),
    )
    return manifest.with_generation(number, generation)


def _carry_over(place: Place, manifest: Manifest, target: Target) -> None:
    """Rows of the generation in use, encoded by the new models from the same region vectors."""
    old = manifest.generation
    same = (old.features, old.arrays[REGIONS]) == (
        target.generation.features,
        target.generation.arrays[REGIONS],
    )
    if not same:
        return
    store = place.images(manifest.current, old.arrays)
    known = {record.id for record in target.store.records()}
    records = [record for record in store.records() if record.id not in known]
    names = [name for name in (REGIONS, REAL, BOXES) if name in old.arrays]
    for start in range(0, len(records), BATCH):
        part = records[start : start + BATCH]
        images = images_of(store.read([record.id for record in part], names))
        digest = target.generation.model.digest
        made = tuple(replace(record, model=digest) for record in part)
        target.store.put(Rows(made, target.engine.rows(images)))
