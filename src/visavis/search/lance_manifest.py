"""The manifest of an index in an object store: a table of one row that knows its revision.

An object store has no lock that dies with its holder. Commits of a table, though, are made one
after the other whoever makes them, and an update whose condition does not hold any more changes no
row. So a writer says which revision it has read, and hears whether it was still the newest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from visavis.errors import IndexError_
from visavis.search.lance_store import ERRORS, in_one_line, write_error, writing

NAME = "manifest"


class RemoteManifest:
    """What `index.json` is in a folder."""

    def __init__(self, database: Callable[[], Any], uri: str) -> None:
        self._database, self.uri = database, uri
        self._opened: Any = None

    def read(self) -> Any | None:  # noqa: ANN401  (JSON)
        """What it holds; None when there is none.

        Raises:
            IndexError_: the store does not answer, or something else lies there.
        """
        row = self._row(["text"])
        try:
            return None if row is None else json.loads(row["text"])
        except ValueError as error:
            raise IndexError_(f"{self.uri}: damaged ({in_one_line(error)}); build anew") from error

    def stamp(self) -> str:
        """The revision; empty when there is none."""
        row = self._row(["revision"])
        return "" if row is None else str(row["revision"])

    def write(self, values: object, since: str) -> bool:
        """Replace it, unless another writer was first: False then, and nothing is changed.

        Args:
            values: for JSON.
            since: the stamp of what they replace.

        Raises:
            StorageError: it cannot be written.
        """
        text = json.dumps(values, ensure_ascii=False)
        if not since:
            return self._created(text)
        revision = int(since)

        def replace() -> int:
            self._opened.checkout_latest()
            found = self._opened.update(
                where=f"revision = {revision}", values={"revision": revision + 1, "text": text}
            )
            return int(found.rows_updated)

        return bool(writing(self._opened, replace))

    def _created(self, text: str) -> bool:
        rows = pa.table({"revision": pa.array([1], pa.int64()), "text": [text]})
        try:
            self._opened = self._database().create_table(NAME, rows)
        except ERRORS as error:
            if NAME in self._database().list_tables().tables:
                return False  # another writer made it meanwhile
            raise write_error(error, self.uri) from error
        return True

    def _row(self, columns: list[str]) -> dict[str, Any] | None:
        try:
            if self._opened is None:
                if NAME not in self._database().list_tables().tables:
                    return None
                self._opened = self._database().open_table(NAME)
            self._opened.checkout_latest()
            rows = self._opened.search().select(columns).limit(1).to_arrow().to_pylist()
        except ERRORS as error:
            raise IndexError_(f"{self.uri}: cannot be read ({in_one_line(error)})") from error
        return rows[0] if rows else None
