"""A problem of all pairs in pieces: tiles of the engine, or what published code scores at once."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.measure import Setting, flops_of
from benchmarks.published.table import PUBLISHED, Published
from benchmarks.traffic import told
from torch import Tensor

from visavis.kernels.choose import EAGER, usual_kernel
from visavis.scoring.budget import used_lengths
from visavis.scoring.matrix import Block, score_matrix
from visavis.scoring.sides import Held, Numbers, Side, bytes_of
from visavis.scoring.stream import Stream
from visavis.types import Encoded, Scores

Pair = tuple[Encoded, Encoded]
HELD = 2**28  # bytes of a side that lies in memory as a whole
PIECE = 1.5  # seconds of the processor that a tile should take at most
WITH_KERNELS = ("scan", "bfan")


class Repeated:
    """A few items that stand for many: item n is the n-th of them, and after the last the first.

    A side as `stream` takes it. What it gives is copied, as from unsorted items in memory.
    """

    encodes = False

    def __init__(self, few: Encoded, count: int) -> None:
        self.few = few
        lengths = used_lengths(few).numpy()
        self.order = np.argsort(lengths[np.arange(count) % len(few)], kind="stable")
        self.item_bytes = bytes_of(few) // len(few)

    def at(self, places: slice) -> Encoded:
        """Items in the order of their lengths."""
        return self.pick(self.order[places])

    def pick(self, items: Numbers) -> Encoded:
        """Items by number."""
        return self.few.select(torch.from_numpy(items % len(self.few))).trimmed()


def many(few: Encoded, count: int) -> Side:
    """So many items, made of a few: in memory where they are not too large."""
    if len(few) == count:
        return Held(few)
    if bytes_of(few) // len(few) * count <= HELD:
        return Held(few.select(torch.arange(count) % len(few)))
    return Repeated(few, count)


class Work:
    """Pieces of one problem, visited all over it, so that a few of them stand for all."""

    def __init__(self, model: Any, items: Pair, sizes: tuple[int, int]) -> None:  # noqa: ANN401
        self.model = model
        self.sides = tuple(many(side, count) for side, count in zip(items, sizes, strict=True))
        self.counts = tuple(
            side.mask.sum(dim=1)[torch.arange(count) % len(side)]
            for side, count in zip(items, sizes, strict=True)
        )
        self.pairs = 0
        self.count = 1
        self.fullest = 0  # the piece that needs most memory, or one that needs nearly as much
        self._next = 0

    def score(self, number: int) -> tuple[Tensor, Tensor]:
        """Score a piece; which images with which sentences it was."""
        raise NotImplementedError

    def run(self, number: int) -> float:
        """The operations that a piece needs, once it is scored."""
        rows, columns = self.score(number)
        self.pairs += len(rows) * len(columns)
        return float(flops_of(self.model, self.counts[0][rows], self.counts[1][columns]))

    def step(self) -> float:
        """The same of the next piece, which lies far from the one before."""
        # Multiples of a number without common divisors go round all pieces, evenly.
        stride = max(1, round(self.count * 0.618))
        while math.gcd(stride, self.count) > 1:
            stride += 1
        number = self._next * stride % self.count
        self._next += 1
        return self.run(number)

    @property
    def whole(self) -> int:
        """Operations of all pairs."""
        return flops_of(self.model, *self.counts)


class Tiles(Work):
    """Tiles of `stream`, in the order of the lengths of sentences."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        items: Pair,
        sizes: tuple[int, int],
        block: Block,
    ) -> None:
        super().__init__(model, items, sizes)
        self.stream = Stream(model, *self.sides, block)
        self.count = self.stream.count
        in_row = -(-sizes[1] // self.stream.columns)
        self.fullest = max(0, in_row - 2)  # the last one may be narrow

    def score(self, number: int) -> tuple[Tensor, Tensor]:
        """A tile."""
        tile = next(self.stream.start(number))
        return tile.rows, tile.columns


class Calls(Work):
    """Calls of a published form, items in the order in which they were drawn."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        items: Pair,
        sizes: tuple[int, int],
        form: Published,
    ) -> None:
        super().__init__(model, items, sizes)
        self.form, self.sizes = form, sizes
        self.across = -(-sizes[1] // form.sentences)
        self.count = -(-sizes[0] // form.images) * self.across

    @torch.inference_mode()
    def score(self, number: int) -> tuple[Tensor, Tensor]:
        """What the published code scores at once."""
        places, most = divmod(number, self.across), (self.form.images, self.form.sentences)
        parts = [
            np.arange(place * size, min((place + 1) * size, count))
            for place, size, count in zip(places, most, self.sizes, strict=True)
        ]
        left, right = (side.pick(part) for side, part in zip(self.sides, parts, strict=True))
        self.form.score(self.model, left, right)
        return torch.from_numpy(parts[0]), torch.from_numpy(parts[1])


def work_of(model: Any, items: Pair, setting: Setting) -> Work:  # noqa: ANN401
    """A setting's problem in pieces, of items that are repeated as often as it takes."""
    sizes = setting.images, setting.sentences
    if setting.kind == "published":
        return Calls(model, items, sizes, PUBLISHED[setting.family])
    few = [side.select(slice(0, 8)) for side in items]
    for _ in range(2):  # the first call is slower than the others
        start = time.process_time()
        score_matrix(model, *few, block=setting.block)
        each = (time.process_time() - start) / (len(few[0]) * len(few[1]))
    work = Tiles(model, items, sizes, setting.block)
    columns, rows = work.stream.columns, work.stream.rows
    if each * columns * rows <= PIECE * 2:
        return work
    rows = max(1, int(PIECE / (each * columns)))
    return Tiles(model, items, sizes, replace(setting.block, rows=rows))


def scores_of(model: Any, items: Pair, setting: Setting) -> Scores:  # noqa: ANN401
    """All scores of a few items in the form of a setting."""
    if setting.kind == "published":
        with torch.inference_mode():
            return PUBLISHED[setting.family].score(model, *items)
    return score_matrix(model, *items, block=setting.block)


class Told:
    """A model whose kernel PyTorch cannot look into: its operations and bytes are told."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self.model = model
        self.pair_bytes = model.pair_bytes

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """As the model; a kernel reads what is encoded once and writes scores once."""
        found: Scores = self.model.score(images, sentences)
        needed = flops_of(self.model, images.mask.sum(dim=1), sentences.mask.sum(dim=1))
        moved = bytes_of(images) + bytes_of(sentences) + found.i2t.numel() * 4
        told(needed, moved)
        return found


def seen_through(model: Any, setting: Setting) -> Any:  # noqa: ANN401
    """What stands in for a model while operations are counted."""
    return Told(model) if kernel_of(setting) not in ("", EAGER) else model


def kernel_of(setting: Setting) -> str:
    """The name of the kernel that a line's scores come from, where there are kernels."""
    used = setting.family in WITH_KERNELS and setting.kind not in ("published", "plain")
    return usual_kernel() if used else ""
