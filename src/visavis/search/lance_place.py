"""LanceDB in a folder or in an object store. This module and `lance_store` alone know of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from visavis.errors import DataError, IndexError_, StorageError
from visavis.files import read_json, write_json
from visavis.search.arrow import array_of, fixed_lists, schema_of
from visavis.search.lance_manifest import RemoteManifest
from visavis.search.lance_store import ALL, ERRORS, LanceStore, in_one_line, write_error
from visavis.search.manifest import FILE
from visavis.search.place import Sentences
from visavis.search.rows import ArraySpec, Specs
from visavis.search.store import VectorStore


class LancePlace:
    """A folder, or `s3://bucket/folder` with credentials in the environment."""

    def __init__(self, uri: str) -> None:
        self._remote = "://" in uri
        self.uri = uri.rstrip("/") if self._remote else str(Path(uri))
        self._folder = Path(self.uri)
        self._connection: Any = None
        self._remote_manifest = RemoteManifest(lambda: self._db, self.uri)

    def read(self) -> Any | None:  # noqa: ANN401
        """What `index.json` holds."""
        if not self._remote:
            file = self._folder / FILE
            try:
                return read_json(file) if file.is_file() else None
            except DataError as error:
                raise IndexError_(f"{error}; build the index anew") from error
        return self._remote_manifest.read()

    def write(self, values: object, since: str | None = None) -> bool:
        """Replace `index.json`: by a rename in a folder, where the lock keeps others away."""
        if self._remote:
            known = self._remote_manifest.stamp()
            return self._remote_manifest.write(values, known if since is None else since)
        if since not in (None, self.stamp()):
            return False
        write_json(self._folder / FILE, values)
        return True

    def stamp(self) -> str:
        """Time and size of `index.json`, or its revision in an object store."""
        if self._remote:
            return self._remote_manifest.stamp()
        try:
            found = (self._folder / FILE).stat()
        except FileNotFoundError:
            return ""
        return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """A lock on a file, which the system lets go of when its holder dies."""
        if self._remote or os.name != "posix":
            yield
            return
        import fcntl

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stream = (self._folder / ".lock").open("w")
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be written ({error.strerror})") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def images(self, generation: int, specs: Specs) -> VectorStore:
        """The rows of a generation."""
        table = self._table(f"images-{generation}", schema_of(specs))
        return LanceStore(table, specs, None if self._remote else self.lock)

    def sentences(self, generation: int) -> Sentences | None:
        """The sentence bank of a generation."""
        name = f"sentences-{generation}"
        if name not in self._names():
            return None
        found = self._db.open_table(name).search().limit(ALL).to_arrow()
        vectors = None
        if "vector" in found.column_names:
            width = found.schema.field("vector").type.list_size
            spec = ArraySpec(shape=(width,), type="float32")
            vectors = array_of(found.column("vector"), spec).copy()  # Arrow's memory is read-only
        pictures = tuple(tuple(ids) for ids in found.column("pictures").to_pylist())
        return Sentences(tuple(found.column("text").to_pylist()), pictures, vectors)

    def put_sentences(self, generation: int, sentences: Sentences) -> None:
        """Replace it in one commit."""
        columns = {
            "text": pa.array(sentences.texts, pa.string()),
            "pictures": pa.array([list(ids) for ids in sentences.pictures], pa.list_(pa.string())),
        }
        if sentences.vectors is not None:
            columns["vector"] = fixed_lists(sentences.vectors)
        with self.lock():
            name = f"sentences-{generation}"
            mode = "overwrite" if name in self._names() else "create"
            self._db.create_table(name, pa.table(columns), mode=mode)

    def drop(self, keep: set[int]) -> None:
        """Remove the tables of other generations."""
        for name in self._names():
            kind, _, number = name.partition("-")
            if kind in ("images", "sentences") and number.isdecimal() and int(number) not in keep:
                self._db.drop_table(name)

    @property
    def _db(self) -> Any:  # noqa: ANN401
        if self._connection is None:
            try:
                self._connection = lancedb.connect(self.uri)
            except ERRORS as error:
                raise StorageError(
                    f"{self.uri}: cannot be opened ({in_one_line(error)})"
                ) from error
        return self._connection

    def _names(self) -> list[str]:
        return [*self._db.list_tables().tables]

    def _table(self, name: str, schema: pa.Schema) -> Any:  # noqa: ANN401
        try:
            return self._db.open_table(name)
        except ERRORS:  # none yet, or what a killed process left of one
            with self.lock():
                try:
                    return self._db.create_table(name, schema=schema, exist_ok=True)
                except ERRORS as error:
                    raise write_error(error, self.uri) from error
