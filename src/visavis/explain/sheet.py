"""The contact sheet: what a model found for some queries, and where it looked, on one page.

row = SheetRow("a red circle", (SheetHit(Path("1.png"), 0.8, right=True, explanation=why),))
Sheet("Search", (row,)).write_html(Path("sheet.html"))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visavis.errors import DataError
from visavis.explain.rows import SheetHit, SheetMiss, SheetRow
from visavis.explain.saved import save_png
from visavis.explain.sheet_page import page_parts
from visavis.explain.sheet_picture import draw_sheet
from visavis.files import atomic_path

__all__ = ["Sheet", "SheetHit", "SheetMiss", "SheetRow"]

PNG_ROWS = 50  # a picture is in memory as a whole, a page is not


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Rows of queries and answers."""

    title: str
    rows: tuple[SheetRow, ...]
    note: str = ""  # a sentence or two below the title: model, corpus, figures

    def write_html(self, path: Path) -> None:
        """Write one page that needs nothing beside it: pictures, style and script are inside.

        Pictures are opened one at a time and the page is written as it grows.

        Raises:
            DataError: a picture is missing or cannot be decoded.
            StorageError: the page cannot be written; what stood at `path` is untouched.
        """
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="replace") as stream,
        ):
            stream.writelines(page_parts(self.title, self.note, self.rows))

    def write_png(self, path: Path) -> None:
        """Write the same as one picture, drawn without a browser.

        Its font has the letters of English; the page has every script.

        Raises:
            DataError: more than `PNG_ROWS` rows, or a picture is missing or cannot be decoded.
            StorageError: the picture cannot be written; what stood at `path` is untouched.
        """
        if len(self.rows) > PNG_ROWS:
            raise DataError(
                f"{path}: {len(self.rows)} rows, at most {PNG_ROWS} fit into one picture; "
                "write .html instead"
            )
        drawn = draw_sheet(self.title, self.note, self.rows)
        save_png(drawn, path)
