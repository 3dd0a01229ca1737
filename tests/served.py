"""An index that answers by arithmetic, so that tests of the service know what must come out."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visavis.errors import DataError, IndexError_
from visavis.search.answers import (
    Answer,
    Hit,
    Info,
    Report,
    SentenceAnswer,
    SentenceHit,
    Stage,
    WhyHit,
)

SENTENCES = ("a red circle", "a blue square", "two green stars on a white ground")


def number(text: str) -> float:
    """A number from 0 to 1 that a text has always."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@dataclass
class FakeIndex:
    """Scores are `number(query + id)`: any order of work must lead to the same answers."""

    root: Path
    seconds: float = 0.0  # that scoring takes
    batches: list[int] = field(default_factory=list)
    gate: threading.Event | None = None  # scoring waits until it is set
    removed: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted(self.root.glob("*.png")):
            with Image.open(path) as opened:
                self.sizes[path.stem] = opened.size

    def _wait(self) -> None:
        if self.gate is not None:
            self.gate.wait(30)
        time.sleep(self.seconds)

    def _hits(self, query: str, k: int, where: str | None = None) -> tuple[Hit, ...]:
        listed = (
            re.findall(r"'(\w+)'", where) if where and where.startswith("id IN") else self.sizes
        )
        names = [name for name in listed if name in self.sizes]
        scores = sorted(((number(query + name), name) for name in names), reverse=True)
        return tuple(
            Hit(
                name, f"{name}.png", score, rank, *self.sizes[name], "2024-07-31T18:00:00",
                ("drawn",), score / 2,
            )
            for rank, (score, name) in enumerate(scores[:k], start=1)
        )  # fmt: skip

    def search_many(
        self,
        queries: Sequence[str],
        *,
        k: int = 10,
        where: str | None = None,
        candidates: int | None = None,
        exact: bool = False,
    ) -> list[Answer]:
        self.batches.append(len(queries))
        self._wait()
        if where is not None and where.count("'") % 2:
            raise DataError(f"where: {where!r} has an open quote; close it")
        for query in queries:
            if query == "refuse":
                raise DataError("/secret/place/model.bin: the query has no known word")
        count = candidates or 20
        stages = (
            Stage("filter", 1e-4, len(self.sizes)),
            Stage("encode", 1e-3, 1),
            Stage("first", 3e-3, count),
            Stage("exact", 2e-2, count),
        )
        return [
            Answer(
                one,
                self._hits(one, k, where),
                stages,
                exact,
                count,
                len(self.sizes),
                one != "nothing",
            )
            for one in queries
        ]

    def search(self, query: str, *, rerank: str | None = None, **how: Any) -> Answer:
        return self.search_many([query], **how)[0]

    def search_by_image(
        self, picture: Path | bytes | str, *, k: int = 10, where: str | None = None
    ) -> Answer:
        self._known(picture)
        hits = self._hits(self._name(picture), k)
        stages, size = (Stage("first", 1e-3, k),), len(self.sizes)
        return Answer("", hits, stages, exact=True, candidates=k, gallery=size, matches_well=None)

    def captions(
        self, picture: Path | bytes | str, *, k: int = 10, sentences: Sequence[str] | None = None
    ) -> SentenceAnswer:
        self._known(picture)
        name = self._name(picture)
        given = SENTENCES if sentences is None else sentences
        scored = sorted(((number(name + text), text) for text in given), reverse=True)[:k]
        hits = tuple(SentenceHit(text, s, rank) for rank, (s, text) in enumerate(scored, start=1))
        return SentenceAnswer(hits, (Stage("exact", 2e-3, len(given)),), len(given))

    def embed(self, sentences: Sequence[str]) -> np.ndarray:
        rows = [[number(text + str(place)) for place in range(4)] for text in sentences]
        found = np.asarray(rows, dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def explain(self, image_id: str, query: str) -> WhyHit:
        self._known(image_id)
        words = query.split()
        boxes = np.asarray(
            [[0.05, 0.1, 0.45, 0.6], [0.5, 0.2, 0.95, 0.7], [0.2, 0.5, 0.8, 0.95], [0, 0, 1, 1]],
            dtype=np.float32,
        )
        weights = np.asarray(
            [[number(f"{word}{r}") ** 3 for r in range(4)] for word in words], dtype=np.float32
        )
        worth = np.asarray([number(word) - 0.2 for word in words], dtype=np.float32)
        return WhyHit(words, boxes, weights, worth, number(query + image_id), "attention")

    def picture(self, image_id: str) -> Path:
        self._known(image_id)
        return self.root / f"{image_id}.png"

    def remove(self, ids: Sequence[str]) -> int:
        known = [one for one in ids if one in self.sizes]
        self.removed += known
        return len(known)

    def sync(self, *, progress: Any = None) -> Report:
        if progress is not None:
            progress(1, 2)
        self._wait()
        return Report(1, 0, 0, [("/secret/place/a.jpg", "/secret/place/a.jpg: cut off")], 0.1)

    def info(self) -> Info:
        return Info(
            images=len(self.sizes),
            sentences=len(SENTENCES),
            model="/secret/place/runs/tiny/best",
            extractor="classic",
            roots=("/secret/place",),
            uri="/secret/place/index",
            versions=1,
            bytes=1000,
            first_stage="own",
            recommended_candidates=20,
        )

    def warm(self) -> None:
        return None

    def close(self) -> None:
        return None

    def _known(self, picture: Path | bytes | str) -> None:
        if isinstance(picture, str) and picture not in self.sizes:
            raise IndexError_(f"{self.root}: holds no picture {picture!r}")

    def _name(self, picture: Path | bytes | str) -> str:
        return hashlib.sha256(picture).hexdigest() if isinstance(picture, bytes) else str(picture)
