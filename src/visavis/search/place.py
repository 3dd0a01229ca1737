"""Where an index lies: a folder, an object store, or memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.errors import MissingExtraError
from visavis.search.memory import MemoryStore
from visavis.search.rows import Specs
from visavis.search.store import VectorStore

MEMORY = "memory:"


@dataclass(frozen=True, slots=True, eq=False)
class Sentences:
    """The sentence bank: texts, the pictures each belongs to, and vectors for the first stage."""

    texts: tuple[str, ...]  # M, each once
    pictures: tuple[tuple[str, ...], ...]  # M, ids of pictures; empty where none is known
    vectors: NDArray[np.float32] | None  # (M, P)

    def __len__(self) -> int:
        return len(self.texts)


class Place(Protocol):
    """The manifest, the tables and the lock of an index."""

    @property
    def uri(self) -> str:
        """How it is called."""
        ...

    def read(self) -> Any | None:  # noqa: ANN401  (JSON)
        """What `index.json` holds; None when there is none."""
        ...

    def write(self, values: object, since: str | None = None) -> bool:
        """Replace `index.json` in one step.

        Args:
            values: for JSON.
            since: the stamp of what they replace; when it is not the newest any more, nothing is
                written and False comes back. None replaces whatever is there.
        """
        ...

    def stamp(self) -> str:
        """A text that is another one after every `write`."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Held while a writer writes, against other processes too where the place can do that."""
        ...

    def images(self, generation: int, specs: Specs) -> VectorStore:
        """The rows of a generation; made when there are none."""
        ...

    def sentences(self, generation: int) -> Sentences | None:
        """The sentence bank of a generation."""
        ...

    def put_sentences(self, generation: int, sentences: Sentences) -> None:
        """Replace it in one step."""
        ...

    def drop(self, keep: set[int]) -> None:
        """Remove the tables of other generations."""
        ...


class MemoryPlace:
    """An index that is gone with the process."""

    def __init__(self) -> None:
        self.uri = MEMORY
        self._values: Any | None = None
        self._writes = 0
        self._images: dict[int, MemoryStore] = {}
        self._sentences: dict[int, Sentences] = {}
        self._lock = threading.RLock()

    def read(self) -> Any | None:  # noqa: ANN401
        """What was written."""
        return self._values

    def write(self, values: object, since: str | None = None) -> bool:
        """Keep it."""
        if since not in (None, self.stamp()):
            return False
        self._values = values
        self._writes += 1
        return True

    def stamp(self) -> str:
        """How often it was written."""
        return str(self._writes)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Against other threads."""
        with self._lock:
            yield

    def images(self, generation: int, specs: Specs) -> VectorStore:
        """The rows of a generation."""
        with self._lock:
            return self._images.setdefault(generation, MemoryStore(specs))

    def sentences(self, generation: int) -> Sentences | None:
        """The sentence bank of a generation."""
        return self._sentences.get(generation)

    def put_sentences(self, generation: int, sentences: Sentences) -> None:
        """Replace it."""
        self._sentences[generation] = sentences

    def drop(self, keep: set[int]) -> None:
        """Remove other generations."""
        for number in {*self._images} - keep:
            del self._images[number]
            self._sentences.pop(number, None)


def open_place(uri: str | Path | Place) -> Place:
    """The place of an index.

    Raises:
        MissingExtraError: lancedb is not installed.
    """
    if not isinstance(uri, str | Path):
        return uri
    if str(uri) == MEMORY:
        return MemoryPlace()
    try:
        from visavis.search.lance_place import LancePlace
    except ImportError as error:
        raise MissingExtraError("lancedb", "index") from error
    return LancePlace(str(uri))
