"""Where the index of a folder lies when nobody says it: in the user's cache, not in the folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import typer

from visavis.errors import IndexError_

VARIABLE = "VISAVIS_INDEX"
_FILE = "index.json"
_REMEDY = "make one with `visavis index build FOLDER --model MODEL`, or pass --index"

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        "-x",
        metavar="INDEX",
        help="A folder or s3://BUCKET/FOLDER; default: that of this folder, or the last built.",
    ),
]


def default_index(folder: Path) -> Path:
    """Where the index of a folder of pictures, or of a corpus, is kept."""
    name = hashlib.sha256(str(folder.expanduser().resolve()).encode()).hexdigest()[:16]
    return _indexes() / name


def find_index(given: str | None) -> str:
    """The index that was named, that belongs to a folder that was named, or that is meant.

    Without a name it is that of VISAVIS_INDEX, of the current folder or one above it, or the one
    that was built last.

    Raises:
        IndexError_: there is none.
    """
    named = given or os.environ.get(VARIABLE)
    if named is not None:
        if "://" in named or (Path(named) / _FILE).is_file():
            return named
        if has_index(Path(named)):
            return str(default_index(Path(named)))
        raise IndexError_(f"{named}: no index here, and none of this folder; {_REMEDY}")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / _FILE).is_file() and (folder / ".lock").exists():
            return str(folder)
        if has_index(folder):
            return str(default_index(folder))
    last = _indexes() / "last"
    found = last.read_text(encoding="utf-8").strip() if last.is_file() else ""
    if "://" in found or (found and (Path(found) / _FILE).is_file()):
        return found
    raise IndexError_(f"no index of {here} and none was built before; {_REMEDY}")


def has_index(folder: Path) -> bool:
    """Whether a folder has an index in the cache."""
    return (default_index(folder) / _FILE).is_file()


def remember(uri: str) -> None:
    """Note the index that was built last."""
    from visavis.files import write_text

    write_text(_indexes() / "last", uri if "://" in uri else str(Path(uri).resolve()))


def _indexes() -> Path:
    from visavis.recipes.assemble import cache_root

    return cache_root() / "indexes"
