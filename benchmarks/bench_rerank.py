"""How long re-ranking takes, and how much memory, at the size of COCO's test split.

    python benchmarks/bench_rerank.py [--images 5000] [--each 5] [--dim 256] [--k 15] [--threads 2]

Scores are inner products of noisy vectors, so that neighbours mean something. Memory is what no
file stands behind (RssAnon): results are kept as files, as `visavis evaluate` keeps them.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from visavis.rerank.groups import nearest_vectors
from visavis.rerank.reciprocal import ReciprocalConfig, rerank
from visavis.types import Scores

STATUS = Path("/proc/self/status")
MEBIBYTE = 1 << 20


def resident(kind: str) -> int:
    """Bytes of this process: `RssAnon` or `RssFile`."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


class Watch:
    """The most memory seen, looked at every few milliseconds."""

    def __enter__(self) -> Watch:
        self.peak = resident("RssAnon")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, resident("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, resident("RssAnon"))


@dataclass(frozen=True)
class Case:
    """Vectors that images and their sentences share, with noise."""

    scores: Scores
    sentences: Tensor  # (M, D)


def drawn(images: int, each: int, dim: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(images, dim, generator=generator)
    noise = torch.randn(images * each, dim, generator=generator)
    sentences = torch.nn.functional.normalize(centres.repeat_interleave(each, dim=0) + 2 * noise)
    pictures = torch.nn.functional.normalize(centres)
    scores = torch.empty(images, images * each)
    for start in range(0, images, 256):
        scores[start : start + 256] = pictures[start : start + 256] @ sentences.T
    return Case(Scores.shared(scores), sentences)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("images", 5000), ("each", 5), ("dim", 256), ("k", 15), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    before = resident("RssAnon")
    case = drawn(options.images, options.each, options.dim)
    matrix = case.scores.i2t.numel() * 4
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what drawing left behind is not re-ranking's
    given = resident("RssAnon") - before
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        start, processor = time.perf_counter(), time.process_time()
        groups = nearest_vectors(case.sentences)
        near = time.perf_counter() - start
        rerank(case.scores, groups, ReciprocalConfig(k=options.k), folder=Path(folder))
        seconds = time.perf_counter() - start
        processor = time.process_time() - processor
    used = watch.peak - before
    shape = tuple(case.scores.i2t.shape)
    print(f"{shape[0]} x {shape[1]}, D {options.dim}, K {options.k}, {options.threads} threads")
    print(f"neighbours {near:.1f} s, all {seconds:.1f} s, of the processor {processor:.1f} s")
    print(
        f"peak {used / MEBIBYTE:.0f} MiB, {used / matrix:.2f} of the score matrix "
        f"({matrix / MEBIBYTE:.0f} MiB); scores and vectors alone {given / MEBIBYTE:.0f} MiB"
    )


if __name__ == "__main__":
    main()
