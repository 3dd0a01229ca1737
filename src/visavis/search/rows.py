"""One row per picture: what is known of its file, and the arrays that a model made of it.

A row's arrays all have shapes that the index fixed when it was built, so rows can lie side by side
in memory, in a file and in a table. Floating point numbers are kept in half precision, vectors of
the first stage in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import IndexError_
from visavis.types import Encoded, ImageBatch

TOKENS, MASK, EXTRA, VECTOR = "tokens", "mask", "extra_", "vector_"
BOXES, REGIONS, REAL = "boxes", "regions", "regions_mask"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a picture apart from arrays."""

    id: str  # stable: of the file's content
    root: str  # key of a root of the index
    path: str  # relative to the root, with forward slashes
    name: str = ""  # id in the corpus it comes from
    sha256: str = ""  # of the file; empty where there is none
    bytes: int = 0
    mtime: int = 0  # nanoseconds
    modified: str = ""  # the same as text, 2024-07-31T18:00:00
    width: int = 0
    height: int = 0
    taken: str | None = None  # EXIF date, 2024-07-31T18:00:00
    tags: tuple[str, ...] = ()
    model: str = ""  # hash of the model that made the arrays
    extractor: str = ""  # hash of what made the region vectors


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """Shape of an array of one row, and its type."""

    shape: tuple[int, ...]
    type: str  # of numpy: float16, float32, bool, int64

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """How much room it takes."""
        return self.size * np.dtype(self.type).itemsize


Specs = Mapping[str, ArraySpec]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows: records and arrays in the same order."""

    records: tuple[Record, ...]
    arrays: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if len(array) != len(self.records):
                raise ValueError(f"{len(self.records)} records, {len(array)} rows of {name}")

    def __len__(self) -> int:
        return len(self.records)

    def select(self, places: Sequence[int]) -> Rows:
        """Some of the rows, in the order given."""
        return Rows(
            tuple(self.records[place] for place in places),
            {name: array[list(places)] for name, array in self.arrays.items()},
        )


def specs_of(arrays: Arrays) -> dict[str, ArraySpec]:
    """What arrays of rows look like."""
    return {
        name: ArraySpec(shape=array.shape[1:], type=str(array.dtype))
        for name, array in arrays.items()
    }


def check_arrays(arrays: Arrays, specs: Specs) -> None:
    """Refuse arrays that do not fit an index.

    Raises:
        IndexError_: other names, shapes or types.
    """
    got, wanted = specs_of(arrays), dict(specs)
    for name in sorted({*got, *wanted}):
        if got.get(name) != wanted.get(name):
            raise IndexError_(
                f"{name}: rows of {_shown(got.get(name))}, the index holds "
                f"{_shown(wanted.get(name))}; build it anew with this model"
            )


def _shown(spec: ArraySpec | None) -> str:
    return "nothing" if spec is None else f"{spec.type} {list(spec.shape)}"


def arrays_of(encoded: Encoded) -> Arrays:
    """Encoded images as arrays; what they pooled is not among them, it is a vector."""
    made = {TOKENS: stored(encoded.tokens), MASK: stored(encoded.mask)}
    for key, tensor in encoded.extra.items():
        made[f"{EXTRA}{key}"] = stored(tensor)
    return made


def encoded_of(arrays: Mapping[str, Tensor], pooled: Tensor | None = None) -> Encoded:
    """The inverse of `arrays_of`, of tensors; half precision becomes float32."""
    extra = {
        name.removeprefix(EXTRA): _wide(tensor)
        for name, tensor in arrays.items()
        if name.startswith(EXTRA)
    }
    return Encoded(_wide(arrays[TOKENS]), arrays[MASK], pooled, extra)


def encoded_names(specs: Specs) -> tuple[str, ...]:
    """The arrays that `encoded_of` needs."""
    return tuple(name for name in specs if name in (TOKENS, MASK) or name.startswith(EXTRA))


def region_arrays(images: ImageBatch) -> Arrays:
    """Region vectors of images as arrays."""
    made = {REGIONS: stored(images.regions), REAL: stored(images.mask)}
    if images.boxes is not None:
        made[BOXES] = images.boxes.float().cpu().numpy()
    return made


def images_of(arrays: Arrays) -> ImageBatch:
    """The inverse of `region_arrays`."""
    boxes = torch.from_numpy(arrays[BOXES]) if BOXES in arrays else None
    regions = torch.from_numpy(arrays[REGIONS]).float()
    return ImageBatch(regions, torch.from_numpy(arrays[REAL]), boxes)


def stored(tensor: Tensor) -> NDArray[Any]:
    """A tensor as it is kept: half precision for floating point numbers."""
    kept = tensor.half() if tensor.is_floating_point() else tensor
    found: NDArray[Any] = np.ascontiguousarray(kept.cpu().numpy())
    return found


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
