"""The Triton kernel: `tests/interpreted/triton_cases.py` in a process of its own, and its limits.

Whether Triton interprets is decided when it is imported, and here it is not to be imported at all.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from visavis.kernels import triton_attend
from visavis.kernels.choose import KERNELS, kernel_name, report
from visavis.kernels.spec import AttendSpec, Attention, Items
from visavis.kernels.triton_launch import INTERPRETER

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: see constraints.txt",
)
SHARED = 227 * 1024  # bytes that a program of a Hopper processor may have
MOST_SPILT = 1200  # bytes: gradients of both directions need more registers than there are


def run(*command: str, cache: Path, interpret: bool) -> str:
    surroundings = {**os.environ, "TRITON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    surroundings.pop(INTERPRETER, None)
    if interpret:
        surroundings[INTERPRETER] = "1"
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


CASES = ("pytest", "-q", "tests/interpreted/triton_cases.py", "-p", "no:cacheprovider")


@needs_triton
@pytest.mark.slow
def test_scores_and_gradients_are_those_of_the_equations_in_the_interpreter(
    tmp_path: Path,
) -> None:
    assert "passed" in run(*CASES, cache=tmp_path, interpret=True)


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scores_and_gradients_are_those_of_the_equations_on_the_device(tmp_path: Path) -> None:
    assert "passed" in run(*CASES, cache=tmp_path, interpret=False)


@needs_triton
@pytest.mark.slow
def test_it_compiles_for_hopper_and_fits(tmp_path: Path) -> None:
    said = run("tests.interpreted.hopper", cache=tmp_path, interpret=False)
    found = [json.loads(line) for line in said.splitlines()]
    assert [line["name"] for line in found] == ["score_tiles", "slope_tiles", "slope_tiles"]
    for line in found:
        assert line["shared"] <= SHARED
        assert line["wgmma"] > 0  # products are made by warpgroups
        assert line["spilt"] <= (0 if line["name"] == "score_tiles" else MOST_SPILT)


def request(longest: int = 3, dtype: torch.dtype = torch.float32) -> Attention:
    side = Items(torch.ones(2, longest, 4, dtype=dtype), torch.ones(2, longest).bool())
    return Attention(left=side, right=side, left_looks=AttendSpec(smooth=9.0))


def test_processors_are_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERPRETER, raising=False)
    assert "not on cpu" in triton_attend.refusal(request())
    assert kernel_name(request()) != "triton"
    assert next(iter(KERNELS)) == "triton"
    assert "not on cpu" in report()["triton"]


def test_without_a_device_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERPRETER, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton_attend.missing()


def test_what_it_does_not_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERPRETER, "1")
    assert "up to 128 vectors here, not of 129" in triton_attend.refusal(request(129))
    assert "up to 64 vectors here, not of 65" in triton_attend.refusal(request(65))
    assert "float64" in triton_attend.refusal(request(dtype=torch.float64))
    assert triton_attend.refusal(request(dtype=torch.bfloat16)) == ""


def test_choosing_it_does_not_import_triton() -> None:
    code = (
        "import sys; from visavis.kernels.choose import report; report(); "
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
