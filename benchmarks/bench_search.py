"""Time and memory of an index: building it, asking it, and the same with more pictures.

    python -m benchmarks.bench_search --data CORPUS --features STORE --model RUN --companion RUN
    python -m benchmarks.bench_search --index INDEX --copies 100000 --keep LARGE
    python -m benchmarks.bench_search --index LARGE

The second line copies an index and adds its rows again and again, with noise on their region
vectors; the third measures the copy in a process of its own, for its memory.

Queries are sentences of the corpus. Wall-clock times depend on what else the machine does; CPU time
of the process is given beside them.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from visavis.search.index import CorpusSource, Index
from visavis.search.pictures import picture_id
from visavis.search.rows import REAL, REGIONS, Rows, images_of
from visavis.search.sync import BATCH


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--companion")
    parser.add_argument("--index", type=Path, help="one that is there; else it is built")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--candidates", type=int, nargs="*", default=[200])
    parser.add_argument("--copies", type=int, default=0, help="rows to reach by noisy copies")
    parser.add_argument("--keep", type=Path, help="where the copy is put")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        told: dict[str, object] = {"threads": options.threads}
        if options.index is None:
            index, told["build"] = build(options, Path(temporary) / "index")
        elif options.copies:
            folder = options.keep or Path(temporary) / "index"
            shutil.copytree(options.index, folder)
            index = Index.open(folder)
            told["copies"] = multiply(index, options.copies)
            index.compact()
        else:
            index = Index.open(options.index)
        start = time.perf_counter()
        index.warm()
        told["warm_s"] = round(time.perf_counter() - start, 2)
        told["pictures"] = index.info().images
        for count in options.candidates:
            told[f"candidates_{count}"] = ask(index, options.queries, count)
        told["rss_mib"] = resident()
        told["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(told, indent=2))


def resident() -> int | None:
    """Memory that the process has now, in MiB; None where the system does not tell."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(found[0]) // 1024 if found else None


def build(options: argparse.Namespace, folder: Path) -> tuple[Index, dict[str, float]]:
    """Build an index and time it."""
    start, cpu = time.perf_counter(), time.process_time()
    source = CorpusSource(options.data, options.features)
    index = Index.build(folder, model=options.model, companion=options.companion, source=source)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return index, {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}


def ask(index: Index, queries: int, candidates: int) -> dict[str, object]:
    """Ask sentences one by one."""
    view = index._reader.view
    if view.bank is None:
        raise SystemExit("the index has no sentences to ask with")
    order = np.random.default_rng(2).permutation(len(view.bank))[: queries + 10]
    walls, cpus = [], []
    stages: dict[str, list[float]] = {}
    for place in order.tolist():
        start, cpu = time.perf_counter(), time.process_time()
        answer = index.search(view.bank.texts[place], candidates=candidates)
        walls.append(1000 * (time.perf_counter() - start))
        cpus.append(1000 * (time.process_time() - cpu))
        for stage in answer.stages:
            stages.setdefault(stage.name, []).append(1000 * stage.seconds)
    return {
        "wall_ms_p50_p95": np.percentile(walls[10:], (50, 95)).round(1).tolist(),
        "cpu_ms_p50_p95": np.percentile(cpus[10:], (50, 95)).round(1).tolist(),
        "stage_ms_p50": {name: round(float(np.median(t[10:])), 2) for name, t in stages.items()},
    }


def multiply(index: Index, wanted: int) -> dict[str, float]:
    """Add copies of rows with noise on region vectors, so that they are pictures of their own."""
    view = index._reader.view
    start, cpu = time.perf_counter(), time.process_time()
    generator = torch.Generator().manual_seed(0)
    records = list(view.snapshot.records)
    made = len(records)
    while made < wanted:
        part = [records[(made + row) % len(records)] for row in range(min(BATCH, wanted - made))]
        images = images_of(view.store.read([r.id for r in part], [REGIONS, REAL]))
        noise = torch.randn(images.regions.shape, generator=generator)
        images = replace(images, regions=images.regions + 0.1 * images.regions.std() * noise)
        arrays = view.engine.rows(images)
        arrays["boxes"] = np.zeros((len(part), *view.generation.arrays["boxes"].shape), np.float32)
        copies = [
            replace(record, id=picture_id(f"{made + row:016x}")) for row, record in enumerate(part)
        ]
        view.store.put(Rows(tuple(copies), arrays))
        made += len(part)
    index._reader.look_at = 0.0
    return {
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
    }


if __name__ == "__main__":
    main()
