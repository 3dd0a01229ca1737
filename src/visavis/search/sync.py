"""Bringing a table in line with pictures: what is new, changed, moved or gone.

A picture is known by the hash of its file. A file whose size and time are as they were is not
opened. Rows are written a batch at a time, and what is written is kept: a run that was stopped is
called again and does what is missing. Rows go last, so nothing is lost on the way.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from visavis.errors import DataError
from visavis.search.answers import Report
from visavis.search.engine import Engine
from visavis.search.manifest import Generation
from visavis.search.pictures import Facts, facts_of, further_id, picture_id
from visavis.search.rows import REAL, Record, Rows
from visavis.search.store import VectorStore
from visavis.search.supply import Item, Supply, padded

Progress = Callable[[int, int], None]
BATCH = 256  # pictures that are written at once


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where rows go, and what makes them."""

    store: VectorStore
    generation: Generation
    engine: Engine


@dataclass(slots=True, eq=False)
class _Books:
    """What is known while a sync runs."""

    records: dict[str, Record]  # by id
    by_place: dict[tuple[str, str], list[Record]]
    gone: set[str]  # ids whose files are not there any more
    present: set[str] = field(default_factory=set)  # ids that were seen
    added: int = 0
    changed: int = 0
    replaced: int = 0  # changed pictures, each with an old row that goes
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)


def sync(
    target: Target,
    supply: Supply,
    items: Sequence[Item],
    *,
    whole: Callable[[Record], bool],
    progress: Progress | None = None,
) -> Report:
    """Write what is new, update what changed, take out what is gone.

    Args:
        target: the table.
        supply: region vectors of the items.
        items: pictures that belong to the index.
        whole: whether a record that is in none of the items is to go.
        progress: told how many items are done, of how many.

    Raises:
        StorageError: no room; what was written stays, and a new run goes on.
    """
    start = time.monotonic()
    books = _open_books(target, items, whole)
    for first in range(0, len(items), BATCH):
        part = items[first : first + BATCH]
        _write(target, supply, books, list(_news(target, books, part)))
        if progress is not None:
            progress(first + len(part), len(items))
    stale = books.gone - books.present
    removed = target.store.remove(sorted(stale))
    places = [(item.root, item.path) for item in items]
    ids = tuple(books.ids[place] for place in places if place in books.ids)
    seconds = time.monotonic() - start
    gone = max(0, removed - books.replaced)
    return Report(books.added, books.changed, gone, books.skipped, seconds, ids)


def _open_books(target: Target, items: Sequence[Item], whole: Callable[[Record], bool]) -> _Books:
    records = {record.id: record for record in target.store.records()}
    by_place: dict[tuple[str, str], list[Record]] = {}
    for record in records.values():
        by_place.setdefault((record.root, record.path), []).append(record)
    there = {(item.root, item.path) for item in items}
    gone = {
        record.id
        for record in records.values()
        if (record.root, record.path) not in there and whole(record)
    }
    return _Books(records, by_place, gone)


@dataclass(frozen=True, slots=True)
class _New:
    """A picture without a row."""

    item: Item
    record: Record


def _news(target: Target, books: _Books, items: Sequence[Item]) -> Iterator[_New]:
    """Those items that need a row; others are dealt with here."""
    for item in items:
        here = books.by_place.get((item.root, item.path), [])
        same = next((record for record in here if _unchanged(item, record)), None)
        if same is not None:
            _keep(target, books, item, here, same)
            continue
        try:
            facts = _facts(target, item)
        except DataError as error:
            books.skipped.append((item.path, str(error)))
            books.gone.update(record.id for record in here)
            continue
        same = next((record for record in here if record.sha256 == facts.sha256), None)
        if same is not None:  # written anew with the same content
            _keep(target, books, item, here, _described(target, item, facts, same))
            continue
        known = _known(books, item, facts)
        if known is not None:
            _keep(target, books, item, here, _described(target, item, facts, known))
            continue
        books.gone.update(record.id for record in here)
        name = picture_id(facts.sha256)
        if name in books.records and name not in books.gone - books.present:
            name = further_id(facts.sha256, item.root, item.path)
        tags = {*item.tags, *(tag for record in here for tag in record.tags)}
        empty = Record(id=name, root=item.root, path=item.path, tags=tuple(sorted(tags)))
        record = _described(target, item, facts, empty)
        books.records[name] = record
        books.present.add(name)
        yield _New(item, record)


def _known(books: _Books, item: Item, facts: Facts) -> Record | None:
    """The row of a file with this content that is gone from its place: it was moved."""
    found = books.records.get(picture_id(facts.sha256))
    moved = found is not None and found.id in books.gone and found.id not in books.present
    return found if moved else books.records.get(further_id(facts.sha256, item.root, item.path))


def _unchanged(item: Item, record: Record) -> bool:
    if item.file is None:
        return True
    try:
        status = item.file.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (record.bytes, record.mtime)


def _facts(target: Target, item: Item) -> Facts:
    if item.file is not None:
        return facts_of(item.file)
    told = f"{target.generation.features.digest}\0{item.root}\0{item.path}".encode()
    return Facts(hashlib.sha256(told).hexdigest(), 0, 0, 0, 0, None)


def _described(target: Target, item: Item, facts: Facts, record: Record) -> Record:
    return replace(
        record,
        root=item.root,
        path=item.path,
        name=item.name,
        sha256=facts.sha256,
        bytes=facts.bytes,
        mtime=facts.mtime,
        modified=facts.modified if item.file is not None else "",
        width=facts.width,
        height=facts.height,
        taken=facts.taken,
        model=target.generation.model.digest,
        extractor=target.generation.features.digest,
    )


def _keep(
    target: Target, books: _Books, item: Item, here: Sequence[Record], record: Record
) -> None:
    """A picture that has a row: what is told of it may be new, its arrays are not."""
    if not {*item.tags} <= {*record.tags}:
        record = replace(record, tags=tuple(sorted({*record.tags, *item.tags})))
    before = books.records[record.id]
    if record != before:
        if (before.root, before.path) != (record.root, record.path) or before.tags != record.tags:
            books.changed += 1
        arrays = target.store.read([record.id], list(target.generation.arrays))
        target.store.put(Rows((record,), arrays))
        books.records[record.id] = record
    books.present.add(record.id)
    books.ids[item.root, item.path] = record.id
    books.gone.update(other.id for other in here if other.id != record.id)


def _write(target: Target, supply: Supply, books: _Books, news: Sequence[_New]) -> None:
    """One commit for the new pictures of a batch."""
    if not news:
        return
    found = supply.read([new.item for new in news])
    for place, reason in found.skipped:
        item = news[place].item
        books.skipped.append((item.path, reason))
        books.records.pop(news[place].record.id, None)
        books.present.discard(news[place].record.id)
    if found.images is None:
        return
    regions = target.generation.arrays[REAL].shape[0]
    arrays = target.engine.rows(padded(found.images, regions))
    records = []
    for place in found.places:
        item = news[place].item
        replaced = bool(books.by_place.get((item.root, item.path)))
        record = news[place].record
        books.added += not replaced
        books.changed += replaced
        books.replaced += replaced
        books.ids[item.root, item.path] = record.id
        books.records[record.id] = record
        records.append(record)
    target.store.put(Rows(tuple(records), arrays))
