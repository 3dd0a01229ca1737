"""Every image with every sentence as tiles, one after the other, in bounded memory.

Nothing of the size of the whole matrix exists. A side may be larger than memory too: it is then
encoded as the tiles need it (`visavis.scoring.sides`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from visavis.scoring.matrix import BLOCK, Block, scored_at
from visavis.scoring.sides import Side, as_side
from visavis.types import Encoded, Matcher, Scores

CELL_BYTES = 12  # of a pair of a tile: two scores, a flag of a comparison, sums of flags
NARROW = 256  # columns of a tile at least, where sentences are encoded again for each row of tiles


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Scores of some images with some sentences."""

    rows: Tensor  # (B,) int64 which images
    columns: Tensor  # (C,) int64 which sentences
    scores: Scores  # (B, C) float32, where the model is
    last: bool  # these images have now met every sentence


class Tiles(Protocol):
    """Scores of all pairs of interest, tile by tile, from any tile on."""

    @property
    def shape(self) -> tuple[int, int]:
        """Images and sentences in all."""
        ...

    @property
    def grid(self) -> Mapping[str, object]:
        """What the numbers of tiles mean: JSON values. Of another grid they mean something else."""
        ...

    @property
    def count(self) -> int:
        """Number of tiles."""
        ...

    def start(self, first: int) -> Iterator[Tile]:
        """Tiles from number `first` on, those of the same images one after the other."""
        ...


class Stream:
    """Tiles of two sides. Results do not depend on their sizes but for rounding.

    Args:
        model: in evaluation mode.
        images: N of them, held or encoded when needed.
        sentences: M of them.
        block: sizes and precision.
    """

    def __init__(
        self,
        model: Matcher,
        images: Encoded | Side,
        sentences: Encoded | Side,
        block: Block = BLOCK,
    ) -> None:
        self.model, self.block = model, block
        self.images, self.sentences = as_side(images), as_side(sentences)
        self.shape = len(self.images.order), len(self.sentences.order)
        self.rows, self.columns = _tile_shape(block, self.images, self.sentences)
        self._kept: tuple[int, Encoded] | None = None

    @property
    def grid(self) -> Mapping[str, object]:
        """Sizes of tiles, and the precision of their scores."""
        precision = self.block.precision
        return {"rows": self.rows, "columns": self.columns, "precision": precision}

    @property
    def count(self) -> int:
        """Number of tiles."""
        return -(-self.shape[0] // self.rows) * self._in_row

    @property
    def _in_row(self) -> int:
        return -(-self.shape[1] // self.columns)

    def start(self, first: int) -> Iterator[Tile]:
        """Tiles from number `first` on, row of tiles after row of tiles."""
        row = -1
        for number in range(first, self.count):
            before, row = row, number // self._in_row
            if row != before:
                places = _place(row, self.rows, self.shape[0])
                with torch.inference_mode():
                    left = self.images.at(places)
                rows = torch.from_numpy(self.images.order[places])
            column = number % self._in_row
            across = _place(column, self.columns, self.shape[1])
            right = self._right(column, across)
            yield Tile(
                rows=rows.to(left.mask.device),
                columns=torch.from_numpy(self.sentences.order[across]).to(left.mask.device),
                scores=scored_at(self.model, left, right, self.block),
                last=column == self._in_row - 1,
            )

    def _right(self, column: int, places: slice) -> Encoded:
        """Sentences of a column of tiles; where there is one column alone, they are kept."""
        if self._kept is not None and self._kept[0] == column:
            return self._kept[1]
        self._kept = None  # before the next ones are made
        with torch.inference_mode():
            found = self.sentences.at(places)
        self._kept = column, found
        return found


def stream(
    model: Matcher,
    images: Encoded | Side,
    sentences: Encoded | Side,
    *,
    block: Block = BLOCK,
) -> Iterator[Tile]:
    """Scores of all pairs as tiles, in memory bounded by `block.memory_bytes`.

    A tile is the reader's own: it may be changed. Which pairs share a tile follows from lengths and
    sizes; every pair is in one tile.

    Args:
        model: in evaluation mode.
        images: N encoded images, or a side that encodes them when needed.
        sentences: M encoded sentences, or such a side.
        block: sizes and precision.
    """
    return Stream(model, images, sentences, block).start(0)


def _place(number: int, size: int, count: int) -> slice:
    return slice(number * size, min((number + 1) * size, count))


def _tile_shape(block: Block, images: Side, sentences: Side) -> tuple[int, int]:
    """Images and sentences of a tile: scores and both sides' items within a quarter each."""
    share = block.memory_bytes // 4
    cells = max(1, min(share, block.budget_bytes) // CELL_BYTES)
    wide = max(1, cells // NARROW) if sentences.encodes else block.rows
    rows = min(wide, len(images.order), cells)
    if images.item_bytes:
        rows = min(rows, share // images.item_bytes)
    columns = min(cells // max(1, rows), len(sentences.order))
    if sentences.item_bytes:
        columns = min(columns, share // sentences.item_bytes)
    return max(1, rows), max(1, columns)
