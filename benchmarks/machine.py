"""The machine that is measured: its name, its rates, processor time and memory."""

from __future__ import annotations

import ctypes
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20
COPIED = 64 * MIB  # bytes: more than the caches of one core hold
LEAST = 0.05  # seconds: what is shorter is repeated within its turn
FEATURES = {"avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "bf16", "amx_bf16": "amx"}


def machine_name() -> str:
    """A short name of the processor and of what its products can use: fits a file.

    >>> machine_name() == machine_name().lower()
    True
    """
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    told = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", text.split("\n\n", maxsplit=1)[0], re.M))
    if "model name" not in told:
        return _short(f"{platform.system()} {platform.processor() or platform.machine()}")
    flags = set(told.get("flags", "").split())
    names = [name for flag, name in FEATURES.items() if flag in flags]
    names = names[names.index("avx512") :] if "avx512" in names else names
    model = re.sub(r"\(\w+\)|CPU|Processor|@.*", " ", told["model name"])
    return _short(f"{model} {told.get('cpu family', '')} {told.get('model', '')} {' '.join(names)}")


def _short(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def matrix_product(dtype: torch.dtype, size: int = 2048) -> tuple[Callable[[], object], int]:
    """A matrix product to measure the machine by, and its operations."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    return lambda: left @ right, 2 * size**3


def copied() -> tuple[Callable[[], object], int]:
    """A copy to measure the machine by, and the bytes that it reads and writes."""
    source = torch.randn(COPIED // 4)
    target = torch.zeros_like(source).copy_(source)  # memory is given where it is written to
    return lambda: target.copy_(source), 2 * COPIED


@dataclass(slots=True)
class Spent:
    """What several calls took together."""

    cpu: float = 0.0  # seconds of the processor, of all threads
    wall: float = 0.0  # of the clock
    calls: int = 0
    amount: float = 0.0  # of work, as the calls told

    @property
    def rate(self) -> float:
        """Work in a second of processor time."""
        return self.amount / self.cpu

    def add(self, function: Callable[[], float]) -> None:
        """Call it, again if it is short."""
        cpu, wall = time.process_time(), time.perf_counter()
        while True:
            self.amount += function()
            self.calls += 1
            if time.process_time() - cpu >= LEAST:
                break
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall


def in_turns(functions: Mapping[str, Callable[[], float]], seconds: float) -> dict[str, Spent]:
    """Each function once, in turns, until so many seconds of the processor are over.

    What else the machine does then slows all of them alike.

    Args:
        functions: each says how much work a call was.
        seconds: no turn begins when they are over; the first one always does.
    """
    start = time.process_time()
    found = {name: Spent() for name in functions}
    while True:
        for name, function in functions.items():
            found[name].add(function)
        if time.process_time() - start > seconds:
            return found


def resident(entry: str) -> float:
    """MiB of a line of the process's status: VmRSS is now, VmHWM the highest; elsewhere NaN."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    found = [float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{entry}:")]
    return found[0] if found else math.nan


def forget_peak() -> None:
    """Count the highest resident memory from now on, where the system can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept would be used unseen
    except (OSError, AttributeError, TypeError):
        print("freed memory cannot be given back: peaks may be too low", file=sys.stderr)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print(
            "this system cannot reset the peak of memory: peaks hold preparation", file=sys.stderr
        )


def watched(function: Callable[[], object]) -> dict[str, float]:
    """The columns of memory, of one call."""
    forget_peak()
    before = resident("VmRSS")
    function()
    peak = resident("VmHWM")
    return {"peak_mib": peak, "added_mib": peak - before}
