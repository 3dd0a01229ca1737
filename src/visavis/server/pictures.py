"""Pictures that come in and go out: decoded within bounds, never by path, never as SVG."""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from visavis.errors import DataError
from visavis.extract.pictures import FORMATS, read_picture
from visavis.server.problems import Refused

KINDS = "JPEG, PNG, WebP, BMP, GIF or TIFF"
_SUFFIX = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
_SUFFIX |= {"GIF": ".gif", "TIFF": ".tif"}
CONTENT_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".bmp": "image/bmp", ".gif": "image/gif", ".tif": "image/tiff", ".tiff": "image/tiff",
}  # fmt: skip
WIDTHS = (160, 320, 480, 640, 960, 1280, 1600)


def suffix_of(picture: bytes, megapixels: float) -> str:
    """The file name ending that fits a picture's bytes.

    Raises:
        Refused: no picture of a known format (415), or one with too many pixels (413).
    """
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as opened:
            width, height = opened.size
            suffix = _SUFFIX.get(opened.format or "")
    except Image.DecompressionBombError as error:
        raise _too_many(megapixels) from error
    except Exception as error:
        raise Refused(415, f"not a picture that can be read; send {KINDS}") from error
    if width * height > megapixels * 1e6:
        raise _too_many(megapixels)
    if suffix is None or min(width, height) < 1:
        raise Refused(415, f"not a picture that can be read; send {KINDS}")
    return suffix


def sound(picture: bytes, megapixels: float) -> bytes:
    """A picture that was sent, decoded here and written anew without loss: no surprises left.

    Raises:
        Refused: it cannot be decoded, or has too many pixels.
    """
    suffix = suffix_of(picture, megapixels)
    with tempfile.NamedTemporaryFile(prefix="visavis-", suffix=suffix) as held:
        held.write(picture)
        held.flush()
        try:
            image = read_picture(Path(held.name), max_megapixels=megapixels).image
        except DataError as error:
            raise Refused(415, f"the picture is damaged; send {KINDS}") from error
    written = io.BytesIO()
    image.save(written, format="BMP")
    return written.getvalue()


def _too_many(megapixels: float) -> Refused:
    return Refused(413, f"at most {megapixels:g} megapixels are taken; make the picture smaller")


def width_for(wanted: int) -> int:
    """The thumbnail width that is made for one that is wanted: few are, so that they are kept.

    >>> [width_for(width) for width in (1, 160, 161, 5000)]
    [160, 160, 320, 1600]
    """
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG and the tag that tells whether it changed."""

    data: bytes
    tag: str


class Thumbnails:
    """Thumbnails that were asked for lately; safe for threads.

    Args:
        megabytes: how much is kept.
        megapixels: pictures with more are not decoded.
    """

    def __init__(self, megabytes: float = 64, megapixels: float = 100) -> None:
        self._room = int(megabytes * 1_000_000)
        self._megapixels = megapixels
        self._held: OrderedDict[tuple[str, int], Thumbnail] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, path: Path, width: int) -> Thumbnail:
        """The thumbnail of a picture file.

        Raises:
            Refused: the file is gone or damaged.
        """
        tag = tag_of(path, width)
        with self._lock:
            held = self._held.get((tag, width))
            if held is not None:
                self._held.move_to_end((tag, width))
                return held
        made = Thumbnail(_shrunk(path, width, self._megapixels), tag)
        with self._lock:
            if (tag, width) not in self._held:
                self._held[tag, width] = made
                self._bytes += len(made.data)
            while self._bytes > self._room and self._held:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= len(dropped.data)
        return made


def tag_of(path: Path, width: int = 0) -> str:
    """An entity tag: it changes with the file.

    Raises:
        Refused: the file is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Refused(404, "the picture's file is gone; `visavis index sync`") from error
    what = f"{path}\0{status.st_mtime_ns}\0{status.st_size}\0{width}"
    return f'"{hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:24]}"'


def _shrunk(path: Path, width: int, megapixels: float) -> bytes:
    try:
        image = read_picture(path, max_megapixels=megapixels).image
    except DataError as error:
        raise Refused(404, "the picture's file cannot be decoded") from error
    image.thumbnail((width, 2 * width), Image.Resampling.LANCZOS, reducing_gap=2.0)
    written = io.BytesIO()
    image.save(written, format="JPEG", quality=84, optimize=True)
    return written.getvalue()
