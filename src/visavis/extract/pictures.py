"""Picture files to upright RGB pictures, whatever camera, scanner or web page they come from."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from visavis.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# Decoders that are let near a file, whatever it is called. None of them starts another program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Folders in which systems keep thumbnails and deleted files; hidden ones are left out anyway.
LITTER = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs"})
# No extractor looks at more: larger pictures are reduced while they are decoded.
LONGEST_SIDE = 1600
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap width and height
# What decoders raise on broken bytes, beside the errors that say so.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and how large the file says it is."""

    image: Image.Image  # RGB, upright, its longest side at most LONGEST_SIDE
    size: tuple[int, int]  # width and height of the upright original, in pixels


def list_pictures(folder: Path) -> list[Path]:
    """Every picture file below a folder, sorted by path.

    Hidden files and folders, and the litter that operating systems leave, are passed over.

    Raises:
        DataError: the folder is missing, cannot be read, or holds no picture.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with pictures")
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not _passed_over(name)]
        paths = (Path(place) / name for name in files if not name.startswith("."))
        found += [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not found:
        kinds = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(f"{folder}: holds no picture ({kinds}); give a folder with pictures")
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def load_picture(path: Path, *, max_megapixels: float = 100) -> Image.Image:
    """A picture as every extractor wants it: RGB, upright, at most LONGEST_SIDE on a side.

    The first frame of an animation is taken; transparent parts become white. The file's name
    stays with the picture as `info["filename"]`.

    Raises:
        DataError: the file is missing, is no picture, is cut off, or has too many pixels.
    """
    return read_picture(path, max_megapixels=max_megapixels).image


def read_picture(path: Path, *, max_megapixels: float = 100) -> Picture:
    """A picture as `load_picture` gives it, with the size of the original.

    Raises:
        DataError: the file is missing, is no picture, is cut off, or has too many pixels.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_megapixels * 1e6:
                raise DataError(
                    f"{path}: {width} x {height} pixels, at most {max_megapixels:g} megapixels are "
                    "decoded; make it smaller or raise the limit"
                )
            opened.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # JPEG: decode a smaller scale
            upright = ImageOps.exif_transpose(opened)
            turned = opened.getexif().get(_ORIENTATION, 1) >= 5
            image = _rgb(upright)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded ({reason}); replace or remove it") from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    image.info = {"filename": path.name}
    return Picture(image, (height, width) if turned else (width, height))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits, or fractions, as 8 bits."""
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)  # (h, w)
    highest = grey.max(initial=0.0)
    if image.mode == "F" and highest <= 1:
        grey = grey * 255
    elif image.mode.startswith("I;16") or highest > 255:
        grey = grey / 257  # 65535 becomes 255
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))


def _passed_over(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in LITTER


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
