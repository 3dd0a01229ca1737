"""Builds the native kernel with the compiler that is there, once for each machine and version.

The library lies in visavis's cache folder under a name made of everything that it depends on:
sources, flags, processor, PyTorch. It is written in one step, so that processes that build at the
same time do no harm.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import torch

from visavis.errors import VisavisError
from visavis.files import atomic_path, cache_root

SOURCES = Path(__file__).parent
SOURCE = "attend.cpp"
SECONDS = 300  # a build takes about 4

COMMON = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-fPIC"]
# Tried in this order: compilers differ in what they know.
CHOICES = [
    ["-march=native", "-fopenmp"],
    ["-mcpu=native", "-fopenmp"],
    ["-march=native"],
    ["-mcpu=native"],
    [],
]


class BuildError(VisavisError):
    """The native kernel cannot be built or loaded here."""


_building = threading.Lock()  # among threads; processes have temporary files of their own


def load_library() -> ctypes.CDLL:
    """The library, built first where it is not in the cache.

    Raises:
        BuildError: no compiler, no place to write to, or a compiler that fails.
        StorageError: the disk is full or the folder cannot be written.
    """
    path = library_path()
    with _building:
        if not path.exists():
            _build(path)
    _check_owner(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{path}: cannot be loaded ({error}); remove it") from error


def library_path() -> Path:
    """Where the library of this machine and version lies once it is built."""
    digest = hashlib.sha256()
    for part in (*_source_texts(), *COMMON, str(CHOICES), torch.__version__, _processor()):
        digest.update(part.encode() + b"\0")
    return cache_root() / "kernels" / f"attend-{digest.hexdigest()[:20]}.so"


def compiler() -> str | None:
    """The C++ compiler: CXX, or the first of the usual names that is installed."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def _source_texts() -> list[str]:
    paths = sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])
    return [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in paths]


def _processor() -> str:
    """What code for this processor may use: a cache folder may be shared by several machines."""
    about = Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.split(":", 1)[1].split()))
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _build(path: Path) -> None:
    program = compiler()
    if program is None:
        raise BuildError("no C++ compiler is installed")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_path(path) as temporary:
        said = ""
        for choice in CHOICES:
            command = [program, *COMMON, *choice, "-shared", str(SOURCES / SOURCE)]
            said = _run([*command, "-o", str(temporary)])
            if not said:
                temporary.chmod(0o700)
                return
        raise BuildError(f"{program} failed: {said}")


def _run(command: list[str]) -> str:
    """What a compiler that fails says, in one line; empty where it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr.strip()]
    return "" if done.returncode == 0 else lines[0] or f"exit code {done.returncode}"


def _check_owner(path: Path) -> None:
    """Code that others may have written is not run."""
    if os.name != "posix":
        return
    for place in (path, path.parent):
        state = place.stat()
        if state.st_uid not in (os.getuid(), 0) or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BuildError(f"others can write to {place}; set VISAVIS_CACHE to a folder of yours")
