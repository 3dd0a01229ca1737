"""Large matrices, looked at a few rows at a time and checked on the way; results may be files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.files import mapped_matrix

BLOCK_BYTES = 8 << 20  # of one stripe
RAM_BYTES = 64 << 20  # larger results go to a file, where a folder for files is given


def stripes(
    matrix: Tensor, what: str, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a matrix (A, B), so many at once as fit into a block: which, and their numbers.

    A stripe may share memory with the matrix; it is not to be written to.

    Args:
        matrix: of any layout; stripes of a transposed view are laid out anew, once.
        what: what the matrix is called in an error.
        block_bytes: of a stripe in float32.

    Raises:
        DataError: a stripe with NaN or infinity.
    """
    rows = max(1, block_bytes // max(1, 4 * matrix.shape[1]))
    for start in range(0, matrix.shape[0], rows):
        part = slice(start, min(start + rows, matrix.shape[0]))
        stripe = matrix[part].contiguous()
        low, high = torch.aminmax(stripe)  # NaN anywhere makes both NaN
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise DataError(f"{what} hold NaN or infinity; they cannot be ranked")
        yield part, stripe


def new_matrix(shape: tuple[int, int], folder: Path | None, name: str) -> Tensor:
    """An unfilled float32 matrix: in memory, or a file of the folder where it is large.

    Raises:
        StorageError: the file cannot be made.
    """
    if folder is None or 4 * shape[0] * shape[1] <= RAM_BYTES:
        return torch.empty(shape)
    return torch.from_numpy(mapped_matrix(folder / f"{name}.npy", shape))


def copied(matrix: Tensor, folder: Path | None, name: str) -> Tensor:
    """The same numbers as float32 on the CPU, in a matrix of their own."""
    made = new_matrix((matrix.shape[0], matrix.shape[1]), folder, name)
    return made.copy_(matrix)
