"""How a figure becomes a file: drawn, or as the values it is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from visavis.files import atomic_path, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150  # of plots; pictures have the pixels they were drawn with


def save_figure(
    path: Path,
    values: Callable[[], Mapping[str, object]],
    draw: Callable[[], Image.Image | Figure],
) -> None:
    """Write values as JSON where the ending says so, else draw and write a PNG.

    Args:
        path: of the file; its ending is the caller's to check.
        values: what the figure shows, as JSON values.
        draw: the figure itself.

    Raises:
        StorageError: the file cannot be written; what stood there is untouched.
    """
    if path.suffix.lower() == ".json":
        write_json(path, values())
    else:
        save_png(draw(), path)


def save_png(drawn: Image.Image | Figure, path: Path) -> None:
    """Write a picture or a plot as PNG, atomically.

    Raises:
        StorageError: it cannot be written; what stood at `path` is untouched.
    """
    with atomic_path(path) as temporary:
        if isinstance(drawn, Image.Image):
            drawn.save(temporary, format="PNG")
        else:
            drawn.savefig(temporary, format="png", dpi=DPI)
