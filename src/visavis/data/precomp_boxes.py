"""Boxes beside precomputed features: pixels in one file, sizes of the pictures in another.

`SPLIT_ims_bbx.npy` and `SPLIT_ims_size.npy` go with published features but were made by others;
the sizes are met as numbers (width, height) or as an object array of dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.feature_files import check_boxes, open_array
from visavis.data.plain_pickle import read_object_array
from visavis.errors import DataError

_WIDTHS, _HEIGHTS = ("image_w", "width", "w"), ("image_h", "height", "h")


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelBoxes:
    """Boxes of one split, each array with an entry for each row or for each image."""

    file: Path
    boxes: NDArray[Any]  # (rows or N, R, 4) in pixels, or fractions when sizes are None
    sizes: NDArray[np.float32] | None  # (rows or N, 2) width and height
    rows: int  # what the length of an array tells: whether rows or images count its entries

    def read(self, rows: NDArray[np.int64], images: NDArray[np.int64]) -> Tensor:
        """Boxes as fractions of width and height: (N, R, 4).

        Raises:
            DataError: boxes that lie outside of their picture.
        """
        boxes = torch.from_numpy(self.boxes[self._places(self.boxes, rows, images)]).float()
        if self.sizes is not None:
            sizes = torch.from_numpy(self.sizes[self._places(self.sizes, rows, images)])
            boxes = boxes / sizes.repeat(1, 2)[:, None, :]  # (N, R, 4) by width, height twice
        check_boxes(boxes, rows, self.file)
        return boxes.clamp(0, 1)

    def _places(
        self, array: NDArray[Any], rows: NDArray[np.int64], images: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return rows if len(array) == self.rows else images


def open_boxes(folder: Path, name: str, shape: tuple[int, ...], images: int) -> PixelBoxes | None:
    """The boxes of a split, or None when it has no box file.

    `shape` is that of the split's vectors, (rows, R); `images` is how many different images the
    rows hold.

    Raises:
        DataError: boxes or sizes that do not fit, or pixels without sizes.
    """
    file, sizes_file = folder / f"{name}_ims_bbx.npy", folder / f"{name}_ims_size.npy"
    if not file.is_file():
        return None
    boxes = open_array(file)
    rows, regions = shape
    if (
        boxes.shape not in ((rows, regions, 4), (images, regions, 4))
        or boxes.dtype.kind not in "fiu"
    ):
        raise DataError(
            f"{file}: {boxes.dtype} of shape {boxes.shape}, expected numbers of shape "
            f"{(rows, regions, 4)}"
        )
    sizes = None
    if sizes_file.is_file():
        sizes = read_sizes(sizes_file)
        if len(sizes) not in (rows, images):
            raise DataError(f"{sizes_file}: {len(sizes)} sizes for {rows} feature rows")
    elif boxes[0].max() > 1.01:
        raise DataError(
            f"{file}: boxes in pixels need the sizes of the pictures; add {sizes_file.name}, or "
            "remove the boxes"
        )
    return PixelBoxes(file=file, boxes=boxes, sizes=sizes, rows=rows)


def read_sizes(path: Path) -> NDArray[np.float32]:
    """Width and height of each picture, (rows, 2), from numbers or from an object array.

    Entries of an object array are (width, height), or dictionaries with `image_w` and `image_h`
    (`width`, `height`, `w`, `h`). Nothing in the file is executed.

    Raises:
        DataError: the file cannot be read so, or a size is not above zero.
    """
    try:
        sizes = open_array(path)
    except DataError:
        values = [_size(path, entry) for entry in read_object_array(path)]
        sizes = np.array(values, dtype=np.float32).reshape(-1, 2)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or sizes.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: {sizes.dtype} of shape {sizes.shape}, expected (rows, 2): width, height"
        )
    sizes = sizes.astype(np.float32)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(f"{path}: a width or height that is not above zero")
    return sizes


def _size(path: Path, entry: object) -> tuple[float, float]:
    if isinstance(entry, Mapping):
        width = next((entry[key] for key in _WIDTHS if key in entry), None)
        height = next((entry[key] for key in _HEIGHTS if key in entry), None)
    elif isinstance(entry, list) and len(entry) == 2:
        width, height = entry
    else:
        width = height = None
    if not isinstance(width, int | float) or not isinstance(height, int | float):
        raise DataError(f"{path}: {entry!r} is no size; expected image_w and image_h")
    return float(width), float(height)
