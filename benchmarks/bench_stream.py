"""Time and memory of streaming top-k against the number of pairs.

    python -m benchmarks.bench_stream --csv stream.csv

Lists of ten in both directions and the ranks of a diagonal of pairs, from 10^4 pairs on: a
one-vector model (VSE++) up to 10^8 of them, SCAN up to 10^6. Vectors are drawn. The seconds of a
pair and the memory that is added should stay what they are while pairs grow.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from benchmarks.machine import MIB, forget_peak, resident
from benchmarks.measure import Setting, draw, encoded, make_model

from visavis.scoring.collect import Wanted
from visavis.scoring.matrix import Block
from visavis.scoring.top_k import top_k

MODELS = {"vse": (4, 8), "scan": (4, 6)}  # powers of ten: from, to


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns of the table."""

    model: str
    images: int
    sentences: int
    pairs: int
    dim: int
    threads: int
    memory_mib: int  # what streaming may hold
    seconds: float
    cpu_seconds: float
    ns_per_pair: float  # of CPU time
    added_mib: float  # resident memory at its highest, less what was there before


def measure(model: str, pairs: int, dim: int, threads: int, memory_mib: int) -> Line:
    """One line, in a process of its own."""
    torch.set_num_threads(threads)
    count = round(pairs**0.5)
    setting = Setting(model=model, images=count, sentences=count, dim=dim)
    made = make_model(setting)
    with torch.inference_mode():
        if model == "vse":  # drawn vectors: encoding so many regions would take longer
            drawn = draw(made.config, Setting(model=model, images=2, sentences=2))
            left, right = encoded(made, *drawn)
            left, right = (_many(side, count, number) for number, side in enumerate((left, right)))
        else:
            left, right = encoded(made, *draw(made.config, setting))
    diagonal = np.stack([np.arange(count)] * 2, axis=1)
    wanted = Wanted(pairs=diagonal, ranks=True)
    block = Block(memory_bytes=memory_mib * MIB)
    few = slice(0, 64)
    top_k(made, left.select(few), right.select(few), block=block)  # loads what is loaded late
    forget_peak()
    before, start, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    top_k(made, left, right, wanted, block=block)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return Line(
        model=model,
        images=count,
        sentences=count,
        pairs=count * count,
        dim=left.tokens.shape[2],
        threads=threads,
        memory_mib=memory_mib,
        seconds=round(seconds, 4),
        cpu_seconds=round(cpu_seconds, 4),
        ns_per_pair=round(cpu_seconds / count**2 * 1e9, 2),
        added_mib=round(resident("VmHWM") - before, 1),
    )


def _many(side, count, seed):  # noqa: ANN001, ANN202
    """As many items as wanted, of unit vectors, in the form that the model gave."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 1, side.tokens.shape[2], generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=2)
    mask = torch.ones(count, 1, dtype=torch.bool)
    return type(side)(vectors, mask, pooled=vectors[:, 0])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--most", type=float, default=1e8, help="pairs")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-mib", type=int, default=256)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args(words)
    lines = []
    context = multiprocessing.get_context("spawn")
    for model in given.models:
        low, high = MODELS[model]
        for pairs in (10**power for power in range(low, high + 1)):
            if pairs > given.most:
                continue
            with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
                work = pool.submit(
                    measure, model, pairs, given.dim, given.threads, given.memory_mib
                )
                lines.append(work.result())
            print(lines[-1])
            if given.csv is not None:
                write(given.csv, lines)


def write(path: Path, lines: Sequence[Line]) -> None:
    """What is measured so far: a run that is stopped leaves its lines."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, [entry.name for entry in fields(Line)])
        table.writeheader()
        table.writerows(asdict(line) for line in lines)


if __name__ == "__main__":
    main()
