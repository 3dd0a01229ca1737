"""What a picture's file tells without looking at the picture, and where a file may lie."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from visavis.errors import DataError, IndexError_
from visavis.files import sha256_of

_ORIENTATION, _CHANGED, _EXIF, _TAKEN = 0x0112, 0x0132, 0x8769, 0x9003
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_BROKEN = (
    OSError, ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, AttributeError,
    UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
ID_DIGITS, MORE_DIGITS = 16, 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file tells."""

    sha256: str
    bytes: int
    mtime: int  # nanoseconds
    width: int
    height: int
    taken: str | None

    @property
    def modified(self) -> str:
        """When the file was changed, as text."""
        return datetime.fromtimestamp(self.mtime / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def facts_of(path: Path) -> Facts:
    """Hash, size, date and measures of a picture's file.

    Raises:
        DataError: it is gone, cannot be read, or is no picture.
    """
    try:
        status = path.stat()
        digest = sha256_of(path)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of odd metadata, and of pictures that are refused later
            with Image.open(path) as opened:
                width, height = opened.size
                turned, taken = _metadata(opened)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a picture ({reason})") from error
    if turned:
        width, height = height, width
    return Facts(digest, status.st_size, status.st_mtime_ns, width, height, taken)


def _metadata(opened: Image.Image) -> tuple[bool, str | None]:
    """Whether it lies on its side, and when it was taken; broken metadata tell nothing."""
    try:
        exif = opened.getexif()
        dates = (exif.get_ifd(_EXIF).get(_TAKEN), exif.get(_CHANGED))
        taken = next((date for date in map(_date, dates) if date), None)
        return int(exif.get(_ORIENTATION, 1)) >= 5, taken
    except _BROKEN:
        return False, None


def _date(value: object) -> str | None:
    match = _DATE.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        return datetime(year, month, day, hour, minute, second).isoformat()  # a camera's clock
    except ValueError:
        return None


def picture_id(sha256: str) -> str:
    """The id of a picture by its content."""
    return sha256[:ID_DIGITS]


def further_id(sha256: str, root: str, path: str) -> str:
    """The id of a second file with the same content."""
    more = hashlib.sha256(f"{root}\0{path}".encode()).hexdigest()[:MORE_DIGITS]
    return f"{picture_id(sha256)}-{more}"


def inside(root: Path, relative: str) -> Path:
    """The file of a path below a root, links followed.

    Raises:
        IndexError_: it is gone, or lies outside of the root.
    """
    top = root.resolve()
    try:
        found = (top / relative).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # gone, a ring of links, a NUL
        raise IndexError_(f"{relative}: the file is gone; run `visavis index sync`") from error
    if not found.is_relative_to(top) or not found.is_file():
        raise IndexError_(f"{relative}: leads out of the indexed folder, so it is not given out")
    return found
