"""Streaming holds what it says it holds: measured in a process of its own.

This file is also that program: `python -m tests.unit.test_streaming_memory ITEMS MEMORY [ranks]`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.pages import ROOT

STATUS = Path("/proc/self/status")
MEBIBYTE = 2**20
DIM = 16


def peak() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(count: int, memory: int, *, ranks: bool) -> dict[str, int]:
    """Memory that top-k of `count` images and as many sentences needs beside both sides."""
    from typing import Any, cast

    from tests.unit.test_top_k import Product
    from visavis.scoring.collect import Wanted
    from visavis.scoring.matrix import Block
    from visavis.scoring.top_k import top_k
    from visavis.types import Encoded

    class OneVector(Product):
        def pair_bytes(self, regions: int, words: int) -> int:
            return 4

    torch.set_num_threads(1)
    model = cast("Any", OneVector())
    mask = torch.ones(count, 1, dtype=torch.bool)
    left, right = (Encoded(torch.randn(count, 1, DIM), mask) for _ in range(2))
    few = slice(0, 300)
    block = Block(memory_bytes=memory)
    top_k(model, left.select(few), right.select(few), block=block)  # loads what is loaded late
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak()
    pairs = np.stack([np.arange(count)] * 2, axis=1) if ranks else None
    wanted = Wanted(sentences=10, images=10, pairs=pairs, ranks=ranks)
    found = top_k(model, left, right, wanted, block=block)
    results = (found.sentences, found.sentence_scores, found.images, found.image_scores)
    outputs = sum(tensor.numel() * tensor.element_size() for tensor in results)
    return {"added": peak() - before, "outputs": outputs}


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc to see memory")
@pytest.mark.parametrize(
    "memory", [64 * MEBIBYTE, pytest.param(256 * MEBIBYTE, marks=pytest.mark.slow)]
)
def test_the_best_of_four_hundred_million_pairs_stay_within_the_memory(memory: int) -> None:
    module = "tests.unit.test_streaming_memory"
    command = [sys.executable, "-m", module, "20000", str(memory), "ranks"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = json.loads(said)
    assert found["added"] <= 1.1 * memory + found["outputs"]
    assert found["added"] > found["outputs"] / 2  # the peak was seen


if __name__ == "__main__":
    found = measure(int(sys.argv[1]), int(sys.argv[2]), ranks=len(sys.argv) > 3)
    sys.stdout.write(json.dumps(found))
