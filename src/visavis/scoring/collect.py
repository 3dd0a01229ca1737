"""Lists and ranks out of tiles that pass by once; a killed job goes on after its last entry."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.metrics.ranks import Ranks
from visavis.scoring.ledger import Arrays, Ledger
from visavis.scoring.own import OwnPairs, RankCounter
from visavis.scoring.stream import Tile, Tiles
from visavis.scoring.top import RunningTop
from visavis.types import Scores

Estimate = Callable[[NDArray[np.int64]], Scores]
SLACK = {"fp32": 1e-4, "bf16": 2e-2}  # how far a pair's score may lie from the same in a tile


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What is found out of the scores of all pairs."""

    sentences: int = 10  # the best of each image; 0: no lists
    images: int = 10  # the best of each sentence
    pairs: NDArray[np.int64] | None = None  # (P, 2) image, sentence: their scores are kept
    ranks: bool = False  # of the best pair of each query among what is no pair of it
    without_pairs: bool = False  # the lists have none of the pairs

    def __post_init__(self) -> None:
        if min(self.sentences, self.images) < 0:
            raise ValueError(
                f"lists must have at least 0 items, got {self.sentences} and {self.images}"
            )
        if self.pairs is None and (self.ranks or self.without_pairs):
            raise ValueError("ranks and without_pairs need pairs")

    @property
    def identity(self) -> dict[str, object]:
        """JSON values that differ where something else is wanted."""
        pairs = b"" if self.pairs is None else np.ascontiguousarray(self.pairs).tobytes()
        return {
            "sentences": self.sentences,
            "images": self.images,
            "pairs": hashlib.sha256(pairs).hexdigest()[:16],
            "ranks": self.ranks,
            "without_pairs": self.without_pairs,
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """How it is done; none of it changes what is found."""

    folder: Path | None = None  # of the ledger; None: a killed job begins anew
    identity: Mapping[str, Any] = field(default_factory=dict)  # who scores what, as JSON values
    seconds: float = 30.0  # between two entries in the ledger
    prune: bool = False  # leave out pairs that a bound of the model rules out
    progress: Callable[[int, int], None] | None = None  # told images done and images in all


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TopK:
    """The best of each query, best first, and where right answers landed."""

    sentences: Tensor  # (N, k) int32; -1 where a list ends early
    sentence_scores: Tensor  # (N, k) float32; -inf there
    images: Tensor  # (M, k) int32
    image_scores: Tensor  # (M, k)
    pairs: NDArray[np.int64] | None  # (P, 2) those given, each once, in order
    pair_scores: Tensor | None  # (P, 2) i2t and t2i
    ranks: Ranks | None  # None: not asked for
    scored: tuple[int, int]  # pairs that were scored for the images' answers, and the sentences'


def collect(
    tiles: Tiles, wanted: Wanted, job: Job | None = None, estimate: Estimate | None = None
) -> TopK:
    """Go through tiles once.

    The folder of the job stays as it is at the end: who keeps the result elsewhere removes it, and
    a second call before that scores nothing.

    Args:
        tiles: each pair at most once; -inf stands for a pair out of the question.
        wanted: what is found.
        job: the ledger.
        estimate: gives scores of pairs that are close to those in tiles; ranks need it.

    Raises:
        DataError: scores with NaN or infinity.
    """
    job = job or Job()
    ledger = _ledger(tiles, wanted, job)
    slack = SLACK[str(tiles.grid.get("precision", "fp32"))]
    found = _Collector(tiles.shape, wanted, ledger)
    if wanted.ranks and estimate is not None:
        found.count_ranks(estimate, slack)
    said, number = time.monotonic(), ledger.done if ledger else 0
    with torch.inference_mode():
        for tile in tiles.start(number):
            number += 1
            found.see(tile)
            if tile.last and job.progress is not None:
                job.progress(found.images, tiles.shape[0])
            if ledger and (number == tiles.count or time.monotonic() - said >= job.seconds):
                ledger.keep(number, *found.entry())
                said = time.monotonic()
        return found.result(tiles)


def _ledger(tiles: Tiles, wanted: Wanted, job: Job) -> Ledger | None:
    if job.folder is None:
        return None
    own = {"shape": list(tiles.shape), "grid": dict(tiles.grid), "wanted": wanted.identity}
    return Ledger(job.folder, {**job.identity, **own})


class _Collector:
    """Everything that tiles have told so far."""

    def __init__(self, shape: tuple[int, int], wanted: Wanted, ledger: Ledger | None) -> None:
        self.shape, self.wanted = shape, wanted
        self.top = RunningTop(shape[1], wanted.images)  # of the sentences
        self.rows: Tensor | None = None  # images that have not met every sentence yet
        self.row_top = RunningTop(0, wanted.sentences)
        # Filled as images are finished. A small array for each tile instead would lie between the
        # large ones that come and go, and keep the system from getting their memory back.
        self.best = RunningTop(shape[0], wanted.sentences)
        self.order = torch.zeros(shape[0], dtype=torch.int64)  # images as they were finished
        self.images = self.entered = self.scored = 0  # finished, in the ledger; pairs
        self.own = None if wanted.pairs is None else OwnPairs(wanted.pairs, shape)
        self.pair_scores = torch.full((len(self.own) if self.own else 0, 2), -torch.inf)
        self.counters: list[RankCounter] = []
        if ledger is not None and ledger.done:
            self._restore(_tensors(ledger.rows()), _tensors(ledger.running))

    def count_ranks(self, estimate: Estimate, slack: float) -> None:
        """Begin to count, or go on."""
        if self.own is None or self.counters:
            return
        scores = estimate(self.own.pairs)
        sides = (scores.i2t, 0), (scores.t2i, 1)
        self.counters = [RankCounter(self.own.best(s, side), slack) for s, side in sides]

    def see(self, tile: Tile) -> None:
        """Take in a tile; its scores are changed."""
        i2t, t2i = tile.scores.i2t, tile.scores.t2i
        for matrix in {id(m): m for m in (i2t, t2i)}.values():
            _check(matrix, tile.rows, finite=self.wanted.ranks)
        self.scored += i2t.numel()
        if self.rows is None:
            self.rows = tile.rows
            self.row_top = RunningTop(len(tile.rows), self.wanted.sentences, device=i2t.device)
        if self.own is not None:
            self._see_pairs(tile)
        every = torch.arange(len(tile.rows), device=i2t.device)
        self.row_top.to(i2t.device)
        self.row_top.see(every, i2t, tile.columns)
        self.top.to(i2t.device)
        self.top.see(tile.columns, t2i.T, tile.rows)
        if tile.last:
            self._finish()

    def _see_pairs(self, tile: Tile) -> None:
        """Keep the pairs' scores, and count what is no pair."""
        assert self.own is not None
        numbers, rows, columns = self.own.within(tile.rows, tile.columns)
        i2t, t2i = tile.scores.i2t, tile.scores.t2i
        both = torch.stack([i2t[rows, columns], t2i[rows, columns]], dim=1)
        self.pair_scores[numbers.cpu()] = both.cpu()
        if not self.counters and not self.wanted.without_pairs:
            return
        i2t[rows, columns] = -torch.inf
        t2i[rows, columns] = -torch.inf
        sides = ((tile.rows, i2t), (tile.columns, t2i.T))
        for counter, (queries, values) in zip(self.counters, sides, strict=False):
            counter.to(values.device)
            counter.see(queries, values)
        if not self.wanted.without_pairs:
            i2t[rows, columns] = both[:, 0]
            t2i[rows, columns] = both[:, 1]

    def _finish(self) -> None:
        """The images of the tile have met every sentence: their lists are final."""
        assert self.rows is not None
        rows = self.rows.cpu()
        self.best.ids[rows] = self.row_top.ids.cpu()
        self.best.scores[rows] = self.row_top.scores.cpu()
        self.order[self.images : self.images + len(rows)] = rows
        self.images += len(rows)
        self.rows = None

    def entry(self) -> tuple[Arrays, Arrays]:
        """What is final since the last entry, and what later tiles may change."""
        rows = self.order[self.entered : self.images]
        final = {"rows": rows, "ids": self.best.ids[rows], "scores": self.best.scores[rows]}
        self.entered = self.images
        running = {
            "top.scores": self.top.scores,
            "top.ids": self.top.ids,
            "pair_scores": self.pair_scores,
            "progress": torch.tensor([self.images, self.scored]),
        }
        if self.rows is not None:
            running |= {"row.numbers": self.rows, "row.scores": self.row_top.scores}
            running["row.ids"] = self.row_top.ids
        for number, counter in enumerate(self.counters):
            running |= {f"count{number}.{key}": v for key, v in counter.state().items()}
        return _arrays(final) if len(rows) else {}, _arrays(running)

    def _restore(self, final: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
        if final:
            rows = final["rows"]
            self.best.ids[rows], self.best.scores[rows] = final["ids"], final["scores"]
            self.order[: len(rows)] = rows
        self.top.scores, self.top.ids = kept["top.scores"], kept["top.ids"]
        self.pair_scores = kept["pair_scores"]
        self.images, self.scored = (int(value) for value in kept["progress"])
        self.entered = self.images
        if "row.numbers" in kept:
            self.rows = kept["row.numbers"]
            self.row_top = RunningTop(len(self.rows), self.wanted.sentences)
            self.row_top.scores, self.row_top.ids = kept["row.scores"], kept["row.ids"]
        for start in (f"count{side}." for side in (0, 1)):
            state = {k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)}
            if state:
                self.counters.append(RankCounter.restored(state))

    def result(self, tiles: Tiles) -> TopK:
        """Everything, in the order of the items."""
        self.top.to("cpu")
        return TopK(
            sentences=self.best.ids,
            sentence_scores=self.best.scores,
            images=self.top.ids,
            image_scores=self.top.scores,
            pairs=None if self.own is None else self.own.pairs,
            pair_scores=None if self.own is None else self.pair_scores,
            ranks=self._ranks(tiles),
            scored=(self.scored, self.scored),
        )

    def _ranks(self, tiles: Tiles) -> Ranks | None:
        if not self.counters or self.own is None:
            return None
        best = [
            self.own.best(self.pair_scores[:, side], side).to(counter.low.device)
            for side, counter in enumerate(self.counters)
        ]
        decided = [counter.decided(b) for counter, b in zip(self.counters, best, strict=True)]
        if any(bool(open_.any()) for _, open_ in decided):
            # The pairs' scores in tiles are known now: counting once more leaves nothing open.
            again = [RankCounter(b, 0.0) for b in best]
            self.counters = again
            for tile in tiles.start(0):
                self._see_pairs(tile)
            decided = [counter.decided(b) for counter, b in zip(again, best, strict=True)]
        i2t, t2i = (ranks.cpu().numpy() for ranks, _ in decided)
        return Ranks(i2t, t2i)


def _check(matrix: Tensor, rows: Tensor, *, finite: bool) -> None:
    low, high = torch.aminmax(matrix)
    if torch.isnan(low) or high == torch.inf or (finite and low == -torch.inf):
        raise DataError(
            f"scores of images {int(rows.min())} to {int(rows.max())} hold NaN or infinity; "
            "they cannot be ranked; use another model"
        )


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {key: value.cpu().numpy() for key, value in tensors.items()}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
