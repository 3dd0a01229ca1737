"""An index of pictures: a sentence finds pictures, a picture finds sentences.

Reading is safe from any number of threads and processes; each answer is of one state of the index.
Writers wait for each other. Every write raises StorageError when there is no room.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.errors import IndexError_
from visavis.search.answers import (
    Agreement,
    AgreementPoint,
    Answer,
    CompactReport,
    Hit,
    Info,
    Report,
    SentenceAnswer,
    SentenceHit,
    Stage,
    WhyHit,
)
from visavis.search.build import build
from visavis.search.captions import captions
from visavis.search.cascade import Settings, embed, search
from visavis.search.engine import Companion, Engine, ModelFiles, new_engine
from visavis.search.like import like, read_query
from visavis.search.measure import COUNTS, agreement
from visavis.search.opening import Reader, engine_of, open_view, read_manifest
from visavis.search.place import Place, open_place
from visavis.search.source import CorpusSource, FolderSource, Source
from visavis.search.view import View
from visavis.search.where import parse
from visavis.search.why import why
from visavis.search.write import (
    add_files,
    compact,
    compact_when_due,
    note_agreement,
    sync_all,
    watch,
)

__all__ = [
    "COUNTS", "Agreement", "AgreementPoint", "Answer", "CompactReport", "CorpusSource",
    "FolderSource", "Hit", "Index", "Info", "Progress", "Report", "SentenceAnswer", "SentenceHit",
    "Source", "Stage", "WhyHit",
]  # fmt: skip

Progress = Callable[[int, int], None]  # told how many are done, of how many


class Index:
    """Pictures that can be searched."""

    def __init__(self, place: Place, engine: Engine, view: View) -> None:
        self.built: Report | None = None  # what `build` did; None after `open`
        self._place = place
        self._reader = Reader(place, view)
        self._writing = threading.Lock()

    @staticmethod
    def open(
        uri: str | Path | Place, *, model: str | Path | None = None, device: str = "cpu"
    ) -> Index:
        """Open an index: a folder, or `s3://bucket/folder` with credentials in the environment.

        `model` says where the model lies, when it is not where it was when the index was built.

        Raises:
            IndexError_: no index there, a newer format, or another model.
            CheckpointError: the model is gone.
            MissingExtraError: lancedb is not installed.
        """
        place = open_place(uri)
        manifest = read_manifest(place)
        if manifest is None:
            raise IndexError_(
                f"{place.uri}: no index here; make one with `visavis index build FOLDER`"
            )
        engine = engine_of(place, manifest, None if model is None else str(model), device)
        return Index(place, engine, open_view(place, manifest, engine))

    @staticmethod
    def build(
        uri: str | Path | Place,
        *,
        model: str | Path,
        source: Source,
        companion: Companion | None = None,
        progress: Progress | None = None,
    ) -> Index:
        """Build an index, go on with one that was stopped, or give one a new model.

        A new model's rows are made beside those in use; when all are there the index switches.

        Args:
            uri: a folder, or `s3://bucket/folder`.
            model: a run or model folder, or a hub name.
            source: where the pictures come from.
            companion: a model whose vectors choose what the model scores.
            progress: told how many pictures are done, of how many.

        Raises:
            DataError: no pictures, or vectors that cannot be had.
            IndexError_: a companion that cannot be one; an index of a newer format.
        """
        place = open_place(uri)
        read_manifest(place)  # a newer format is refused before models are loaded
        engine = new_engine(ModelFiles.of(model, companion))
        report = build(place, engine, source, progress=progress)
        manifest = read_manifest(place)
        if manifest is None:
            raise IndexError_(f"{place.uri}: the index was removed while it was built")
        engine = engine.with_weights(manifest.generation.weights)
        index = Index(place, engine, open_view(place, manifest, engine))
        index.built = report
        compact_when_due(index._reader.view)
        return index

    def add(
        self, paths: Sequence[Path], *, tags: Sequence[str] = (), progress: Progress | None = None
    ) -> Report:
        """Add pictures, or whole folders of them; those that are there get the tags.

        Raises:
            DataError: a path that is no picture, or a model whose vectors no extractor makes.
        """
        given = [path.expanduser() for path in paths]
        with self._write() as view:
            return add_files(self._place, view, given, tags=tags, progress=progress)

    def sync(self, *, workers: int = 1, progress: Progress | None = None) -> Report:
        """Bring the index in line with the folders or the corpus that it was built from.

        Raises:
            DataError: a folder that is not there.
        """
        with self._write() as view:
            return sync_all(self._place, view, workers=workers, progress=progress)

    def watch(self, *, interval: float, stop: threading.Event) -> None:
        """Call `sync` again and again until told to stop; what goes wrong is logged."""
        watch(self.sync, interval, stop)

    def remove(self, ids: Sequence[str]) -> int:
        """Take pictures out of the index; files stay. Returns how many were there."""
        with self._write() as view:
            return view.store.remove(list(ids))

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        where: str | None = None,
        candidates: int | None = None,
        exact: bool = False,
        rerank: str | None = None,
    ) -> Answer:
        """The `k` pictures that fit a sentence best; `visavis.search.where` describes filters.

        Of `candidates` pictures the model scores as many as `verify` recommends, or all of them
        with `exact`. The first few can be ranked again with `rerank` = `reciprocal`.

        Raises:
            DataError: an empty query, a filter that is not understood, numbers below 1.
        """
        settings = Settings(k, where, candidates, exact, rerank)
        return search(self._fresh(), [query], settings)[0]

    def search_many(
        self,
        queries: Sequence[str],
        *,
        k: int = 10,
        where: str | None = None,
        candidates: int | None = None,
        exact: bool = False,
    ) -> list[Answer]:
        """As `search` for each of the queries, which are encoded together."""
        if not queries:
            return []
        return search(self._fresh(), queries, Settings(k, where, candidates, exact))

    def search_by_image(
        self, picture: Path | bytes | str, *, k: int = 10, where: str | None = None
    ) -> Answer:
        """Pictures like one: a file, the bytes of a file, or the id of a picture in the index.

        Raises:
            DataError: it cannot be used.
            IndexError_: an unknown id, or an index without vectors of whole pictures.
        """
        view = self._fresh()
        return like(view, read_query(view, picture), picture, Settings(k, where))

    def captions(
        self, picture: Path | bytes | str, *, k: int = 10, sentences: Sequence[str] | None = None
    ) -> SentenceAnswer:
        """The sentences that fit a picture best, of those given or of the index's own.

        Raises:
            DataError: a picture that cannot be used, or no sentences.
            IndexError_: an unknown id.
        """
        view = self._fresh()
        asked = read_query(view, picture)
        return captions(view, asked.encoded(), asked.vector("i2t"), k=k, sentences=sentences)

    def embed(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Sentences as vectors of the first stage: (N, P).

        Raises:
            IndexError_: an index without a first stage.
        """
        return embed(self._fresh(), sentences)

    def explain(self, image_id: str, query: str) -> WhyHit:
        """Which words of a query met which regions of a picture.

        Raises:
            IndexError_: an unknown id.
            DataError: an empty query, or regions without boxes.
        """
        return why(self._fresh(), image_id, query)

    def ids(self, where: str) -> list[str]:
        """The pictures for which a filter holds, sorted.

        Raises:
            DataError: it is not understood.
        """
        return sorted(self._fresh().store.select(parse(where)))

    def unknown_words(self, query: str) -> list[str]:
        """Words of a query that the model never saw in training: they say nothing to it."""
        return self._fresh().engine.main.unknown_words(query)

    def picture(self, image_id: str) -> Path:
        """The file of a picture, which lies inside an indexed root.

        Raises:
            IndexError_: an id that is not there, a file that is gone or that lies outside.
        """
        return self._fresh().file(image_id)

    def info(self) -> Info:
        """What the index holds."""
        return self._fresh().info(self._place.uri)

    def verify(
        self,
        *,
        sample: int = 200,
        candidates: Sequence[int] = COUNTS,
        progress: Progress | None = None,
    ) -> Agreement:
        """How far the two stages agree with scoring every picture; searches then use the result.

        Raises:
            DataError: the index has no sentences to ask with.
        """
        view = self._fresh(now=True)
        found = agreement(view, sample=sample, candidates=candidates, progress=progress)
        note_agreement(self._place, view, found)
        self._fresh(now=True)
        return found

    def compact(self) -> CompactReport:
        """Join small fragments, drop old versions and what models of before have left."""
        with self._writing:
            return compact(self._place, self._fresh(now=True))

    def warm(self) -> None:
        """Load what searching needs; without it the first searches do."""
        self._fresh().warm()

    def close(self) -> None:
        """Let go of memory and files."""
        self._reader.view.arena.close()
        self._reader.view.store.close()

    def _fresh(self, *, now: bool = False) -> View:
        return self._reader.fresh(now=now)

    @contextlib.contextmanager
    def _write(self) -> Iterator[View]:
        """One writer at a time; what was written is seen at once."""
        with self._writing:
            yield self._fresh(now=True)
            compact_when_due(self._fresh(now=True))
