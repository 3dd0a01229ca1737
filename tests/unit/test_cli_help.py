"""The help answers at once: it loads neither torch nor anything else that is heavy."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from visavis import __version__

HEAVY = ("torch", "transformers", "skimage", "scipy", "numpy", "accelerate", "PIL", "onnxruntime")
VERBS = (
    "train", "evaluate", "compare", "search", "caption", "explain", "extract", "mine", "distill",
    "convert", "data", "demo", "serve", "doctor",
)  # fmt: skip
SCRIPT = """
import sys
from visavis.cli.main import main
sys.argv = ["visavis", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def helped(*words: str) -> tuple[str, set[str], float]:
    """What `visavis WORD ... --help` prints, the packages it loads and its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, {name.split(".")[0] for name in done.stderr.split()}, seconds


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)])
def test_help_loads_nothing_heavy(verb: tuple[str, ...]) -> None:
    _, packages, _ = helped(*verb)
    assert "typer" in packages
    assert packages.isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", [(), ("train",)])
def test_help_takes_less_than_half_a_second_of_the_processor(verb: tuple[str, ...]) -> None:
    assert min(helped(*verb)[2] for _ in range(3)) < 0.5


def test_help_names_every_verb() -> None:
    text, _, _ = helped()
    for verb in VERBS:
        assert f"│ {verb} " in text


def test_help_names_the_environment_variables() -> None:
    text, _, _ = helped("search")
    assert "VISAVIS_DATA" in text
    assert "VISAVIS_WEIGHTS" in text


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "visavis", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == __version__
