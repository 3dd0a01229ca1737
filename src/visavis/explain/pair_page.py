"""A figure as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

from visavis.explain.sheet_style import STYLE
from visavis.files import write_text


def write_page(path: Path, title: str, sentence: str, figure: Image.Image) -> None:
    """Write a page that holds a figure; its text stands in the alternative, too.

    Raises:
        StorageError: the page cannot be written; what stood at `path` is untouched.
    """
    held = io.BytesIO()
    figure.save(held, format="PNG")
    source = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    write_text(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n</header>\n<main>\n"
        f'<img class="figure" src="{source}" width="{figure.width}" height="{figure.height}" '
        f'alt="{escape(title)}: {escape(sentence)}">\n</main>\n</body>\n</html>\n',
    )
