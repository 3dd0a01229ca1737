"""A folder of pictures to a feature store: in order, in bounded memory, and able to go on."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visavis.data.feature_files import STORE_FILE
from visavis.data.store import StoreWriter
from visavis.errors import DataError
from visavis.extract.base import Extractor, Regions
from visavis.extract.pictures import Picture, read_picture

# Pictures that one worker takes at a time. Always the same ones together, so that a run that was
# stopped and went on gives the same bytes, even where a network rounds by the size of its batch.
_TOGETHER = 8
_SAFE_EVERY = 300.0  # seconds: a power cut costs no more than these


@dataclass(frozen=True, slots=True)
class ExtractionReport:
    """What `extract_folder` did."""

    extracted: int  # pictures whose regions were stored now
    reused: int  # pictures that were stored before
    skipped: tuple[tuple[str, str], ...]  # id and reason
    seconds: float

    @property
    def seconds_per_picture(self) -> float:
        """Of the pictures extracted now; 0 when there were none."""
        return self.seconds / self.extracted if self.extracted else 0.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One picture: its regions, or why there are none."""

    image_id: str
    regions: Regions | None
    reason: str = ""


def extract_folder(
    pictures: Sequence[Path],
    ids: Sequence[str],
    extractor: Extractor,
    folder: Path,
    *,
    workers: int = 1,
    progress: bool = True,
) -> ExtractionReport:
    """Store the regions of pictures, going on where an earlier run of the same stopped.

    A picture that cannot be decoded, or in which the extractor cannot work, is left out and named
    in the report and in the store; a later run tries it again.

    Args:
        pictures: Picture files.
        ids: The image id of each.
        extractor: What finds regions.
        folder: A feature store: new, or of an earlier run with the same extractor.
        workers: Threads that decode and extract; they change the time, never a result.
        progress: Show a bar with the time left, on terminals only.

    Raises:
        DataError: ids that do not fit, a store of another extractor, not one usable picture.
        StorageError: the disk is full; what was stored stays, and a new run goes on.
    """
    _check(pictures, ids)
    start, new = time.monotonic(), not folder.exists()
    writer = StoreWriter(
        folder, extractor.identity, dim=extractor.dim, max_regions=extractor.max_regions
    )
    done = frozenset(writer.done)
    reused = sum(name in done for name in ids)
    outcomes = _outcomes(pictures, ids, extractor, _open_groups(ids, done), workers)
    bar = _bar(len(ids), reused, shown=progress)
    with _quiet_decoders(), contextlib.closing(outcomes), bar, writer:
        extracted, skipped = _store(writer, (o for o in outcomes if o.image_id not in done), bar)
    if skipped and not extracted and not done:
        _remove_empty(folder, new=new)
        raise DataError(f"no picture of {len(ids)} could be used; the first: {skipped[0][1]}")
    return ExtractionReport(extracted, reused, tuple(skipped), time.monotonic() - start)


def _remove_empty(folder: Path, *, new: bool) -> None:
    """A store in which nothing is: the folder is left as it was found."""
    (folder / STORE_FILE).unlink()
    if new:
        folder.rmdir()


def _open_groups(ids: Sequence[str], done: Set[str]) -> list[range]:
    """The groups of pictures of which at least one is not stored yet."""
    starts = range(0, len(ids), _TOGETHER)
    groups = [range(first, min(first + _TOGETHER, len(ids))) for first in starts]
    return [group for group in groups if any(ids[i] not in done for i in group)]


def _store(
    writer: StoreWriter, outcomes: Iterator[_Outcome], bar: Progress
) -> tuple[int, list[tuple[str, str]]]:
    extracted = 0
    skipped: list[tuple[str, str]] = []
    safe_at = time.monotonic()
    for outcome in outcomes:
        if outcome.regions is None:
            writer.skip(outcome.image_id, outcome.reason)
            skipped.append((outcome.image_id, outcome.reason))
        else:
            found = outcome.regions
            writer.add(outcome.image_id, found.vectors, found.boxes, found.size)
            extracted += 1
        bar.advance(bar.task_ids[0])
        if time.monotonic() - safe_at > _SAFE_EVERY:
            writer.flush()
            safe_at = time.monotonic()
    return extracted, skipped


def _outcomes(
    pictures: Sequence[Path],
    ids: Sequence[str],
    extractor: Extractor,
    groups: Sequence[range],
    workers: int,
) -> Generator[_Outcome, None, None]:
    """Groups are worked on side by side, a few ahead of what is taken, and come in order."""
    ahead: deque[Future[list[_Outcome]]] = deque()
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        try:
            for group in groups:
                paths, names = [pictures[i] for i in group], [ids[i] for i in group]
                ahead.append(pool.submit(_work, paths, names, extractor))
                if len(ahead) > 2 * workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(paths: Sequence[Path], ids: Sequence[str], extractor: Extractor) -> list[_Outcome]:
    """Decode and extract a few pictures; one that fails does not take the others with it."""
    reasons: dict[int, str] = {}
    loaded: dict[int, Picture] = {}
    for index, path in enumerate(paths):
        try:
            loaded[index] = read_picture(path)
        except DataError as error:
            reasons[index] = str(error)
    regions = _extract(loaded, extractor, reasons)
    return [
        _Outcome(name, regions.get(index), reasons.get(index, "")) for index, name in enumerate(ids)
    ]


def _extract(
    loaded: dict[int, Picture], extractor: Extractor, reasons: dict[int, str]
) -> dict[int, Regions]:
    if not loaded:
        return {}
    try:
        found = extractor.extract([picture.image for picture in loaded.values()])
    except DataError as error:
        if len(loaded) == 1:
            reasons[next(iter(loaded))] = str(error)
            return {}
        alone = [_extract({i: picture}, extractor, reasons) for i, picture in loaded.items()]
        return {index: regions for one in alone for index, regions in one.items()}
    return {
        # The size of the file's picture, not of the reduced one that the extractor saw.
        index: replace(regions, size=picture.size)
        for (index, picture), regions in zip(loaded.items(), found, strict=True)
    }


def _check(pictures: Sequence[Path], ids: Sequence[str]) -> None:
    if not pictures:
        raise DataError("no pictures to extract; give a folder that holds some")
    if len(ids) != len(pictures):
        raise DataError(f"{len(pictures)} pictures but {len(ids)} ids")
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(f"two pictures have the id {twice!r}; give each its own")


@contextlib.contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Decoders warn of odd metadata and of large pictures: both are dealt with here.

    Filters belong to the process, so they are set before the threads start.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _bar(total: int, completed: int, *, shown: bool) -> Progress:
    bar = Progress(
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not (shown and sys.stderr.isatty()),
    )
    bar.add_task("extracting", total=total, completed=completed)
    return bar
