"""`visavis doctor`."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from visavis import __version__
from visavis.cli.common import AsJson, counted, show_json

PARTS = {
    "torch": "",
    "numpy": "",
    "accelerate": "",
    "tokenizers": "",
    "scikit-image": "",
    "onnxruntime": "onnx",
    "transformers": "hf",
    "matplotlib": "plot",
    "lancedb": "index",
    "fastapi": "serve",
    "ray": "scale",
}


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, what is missing and what that means; exit code 1 when it matters."""
    parts = {name: _installed(name) for name in PARTS}
    machine = _machine()
    problems = [f"{name} is missing" for name, extra in PARTS.items() if not (extra or parts[name])]
    problems += _problems(machine)
    if as_json:
        show_json({"machine": machine, "packages": parts, "problems": problems})
    else:
        for key, value in machine.items():
            typer.echo(f"{key:14} {value}")
        for name, version in parts.items():
            missing = f"not installed; pip install 'visavis[{PARTS[name]}]' if you need it"
            typer.echo(f"{name:14} {version or missing}")
        for problem in problems:
            typer.echo(f"problem: {problem}")
        typer.echo("all well" if not problems else counted(len(problems), "problem"))
    if problems:
        raise typer.Exit(1)


def _installed(package: str) -> str | None:
    import importlib.metadata  # slow to load: not for `visavis --help`

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, object]:
    import platform
    import shutil

    import torch

    from visavis.recipes.assemble import cache_root

    cache = cache_root()
    data = os.environ.get("VISAVIS_DATA")
    return {
        "visavis": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "kernel": _kernel("cuda" if torch.cuda.is_available() else "cpu"),
        "cache": str(cache),
        "cache_free_gb": round(shutil.disk_usage(_existing(cache)).free / 1e9, 1),
        "VISAVIS_DATA": data or "not set",
    }


def _kernel(device: str) -> str:
    """The form of cross attention that is used on a device, and why the others are not."""
    from visavis.kernels.choose import report

    found = report(device)
    used = next(name for name, state in found.items() if state == "used")
    others = "; ".join(f"{name}: {why}" for name, why in found.items() if name != used)
    return f"{used} ({others})"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _problems(machine: dict[str, object]) -> list[str]:
    problems = []
    cache = _existing(Path(str(machine["cache"])))
    if not os.access(cache, os.W_OK):
        problems.append(f"{cache} cannot be written; set VISAVIS_CACHE to a folder that can")
    if float(str(machine["cache_free_gb"])) < 1:
        problems.append(f"less than 1 GB is free at {cache}")
    data = os.environ.get("VISAVIS_DATA")
    if data and not Path(data).is_dir():
        problems.append(f"VISAVIS_DATA names {data}, which is no folder")
    if _installed("torchvision") is not None and machine["cuda"] == "none":
        problems.append("torchvision without CUDA breaks transformers; uninstall torchvision")
    return problems
