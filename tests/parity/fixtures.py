"""Tensors that the original implementations gave for small random inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Case:
    """One fixture: its tensors by name and the options of the original run."""

    tensors: dict[str, Tensor]
    options: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with a prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def load_case(name: str) -> Case:
    with safe_open(DATA / f"{name}.safetensors", framework="pt") as file:
        options = json.loads(file.metadata()["options"])
        return Case({key: file.get_tensor(key) for key in file.keys()}, options)  # noqa: SIM118


def case_names(pattern: str) -> list[str]:
    names = sorted(path.stem for path in DATA.glob(f"{pattern}.safetensors"))
    assert names, pattern
    return names


def word_mask(lengths: Tensor, width: int) -> Tensor:
    return torch.arange(width)[None] < lengths[:, None]
