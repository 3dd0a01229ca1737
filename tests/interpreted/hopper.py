"""Compiles the Triton kernel for a Hopper processor, without one, and says what it needs there.

Launches go the way that they go on a machine with one, up to the point where something would run.
One line of JSON for each kernel: `python -m tests.interpreted.hopper`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

from visavis.kernels.sides import readied
from visavis.kernels.spec import AttendSpec, Items
from visavis.kernels.triton_launch import Launch, Plan, way

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


class Absent:
    """A driver of a processor that is not there."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def compiled() -> list[Any]:
    """Kernels as they are asked for from now on."""
    found: list[Any] = []
    run = jit.JITFunction.run

    def only_compile(self: Any, *values: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        found.append(run(self, *values, grid=grid, warmup=True, **options))
        return found[-1]

    driver.set_active(Absent())
    jit.JITFunction.run = only_compile
    return found


def launch(dtype: torch.dtype, regions: int, words: int, width: int, focal: Any) -> None:
    """Scores and gradients where both sides look."""
    spec = AttendSpec(smooth=9.0, focal=focal)
    sides = [Items(torch.zeros(4, n, width), torch.ones(4, n).bool()) for n in (regions, words)]
    (left, left_length), (right, right_length) = (
        readied(side, looks=True, looked_at=True) for side in sides
    )
    plan = Plan(
        left_length=left_length,
        right_length=right_length,
        left_looks=way(spec),
        right_looks=way(spec),
        aligned=False,
        dtype=dtype,
    )
    work = Launch(plan, left, right)
    scores = work.scores()
    for of_rows in (True, False):
        work.slopes(scores, (True, True, True), of_rows=of_rows)


def needs(kernel: Any) -> dict[str, object]:
    """Name, shared memory, registers, bytes spilt, and products by warpgroups."""
    code = kernel.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(code, encoding="utf-8")
        command = [PTXAS, "-v", "--gpu-name", "sm_90a", path, "-o", path.with_suffix(".cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    numbers = [
        re.search(what, said) for what in (r"Used (\d+) registers", r"(\d+) bytes spill stores")
    ]
    registers, spilt = (int(found[1]) if found else -1 for found in numbers)
    return {
        "name": kernel.metadata.name,
        "shared": kernel.metadata.shared,
        "registers": registers,
        "spilt": spilt,
        "wgmma": code.count("wgmma.mma_async"),
    }


def main(arguments: list[str]) -> None:
    """Compile, by default one case; with `all`, usual ones and the largest."""
    cases = [(torch.bfloat16, 36, 14, 1024, "equal")]
    if arguments == ["all"]:
        cases += [
            (torch.float32, 36, 14, 1024, "none"),
            (torch.float32, 128, 64, 1024, "equal"),
        ]
    found = compiled()
    for case in cases:
        launch(*case)
        while found:
            line = {"case": [str(each) for each in case], **needs(found.pop(0))}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
