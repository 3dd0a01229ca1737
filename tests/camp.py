"""Small CAMP models of every setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny import REGION_DIM, VOCAB, twin
from visavis.config import build
from visavis.models.camp import Camp, CampConfig

LEAST: dict[str, Any] = {
    "region_dim": REGION_DIM,
    "vocab_size": VOCAB,
    "dim": 8,
    "heads": 2,
    "text": {"word_dim": 6},
}
CODE: dict[str, Any] = {"variant": "code_new", "gate": "scalar", "fusion": "concat"}
CROSS: dict[str, Any] = {"fuse": False, "match": "cosine"}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"affinity_dim": 3, "normalise": True},
    {"fusion": "concat"},
    {"fusion": "product"},
    {"gate": "scalar"},
    {"gate": "scalar", "fusion": "product"},
    {"gate": "none"},
    {"gate": "none", "fusion": "concat"},
    {"residual": False},
    {"messages": "mean"},
    {"messages": "mean", "gate": "scalar", "fusion": "concat"},
    {"pooling": "mean", "padded_to": 9},
    {"match": "cosine"},
    CROSS,
    {**CROSS, "messages": "mean"},
    {**CROSS, "pooling": "mean"},
    {"variant": "code_v1", "gate": "scalar", "fusion": "concat"},
    {"variant": "code_v1", **CROSS},
    CODE,
    {**CODE, "fusion": "add"},
    {**CODE, "gate": "vector", "messages": "mean"},
    {**CODE, **CROSS},
    {**CODE, **CROSS, "pooling": "mean", "padded_to": 9},
    {**CODE, **CROSS, "messages": "mean"},
]

every_setting = pytest.mark.parametrize("values", SETTINGS, ids=lambda v: "-".join(map(str, v)))


def model_of(*, seed: int = 0, **values: Any) -> Camp:
    torch.manual_seed(seed)
    return Camp(build(CampConfig, {**LEAST, **values})).eval()


def straight(model: Camp) -> Camp:
    """The same weights, scored by building every pair."""
    return twin(model, plain=True)
