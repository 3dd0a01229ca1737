"""Fixtures for everything: no network, one thread per worker, photographs only where they exist."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared"


def pytest_configure() -> None:
    """One thread per worker: two workers on two cores would fight otherwise."""
    torch.set_num_threads(1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails."""
    real = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family == socket.AF_UNIX or str(address).startswith("('127.0.0.1'"):
            return real(self, address)  # type: ignore[arg-type]
        raise OSError(f"tests may not connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _folder(variable: str, default: str, needed: str) -> Path:
    folder = Path(os.environ.get(variable, SHARED / default))
    if not (folder / needed).exists():
        pytest.skip(f"{folder} holds no {needed}: set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder with `dataset_flickr8k.json`, `images/` and region files; not shipped."""
    return _folder("VISAVIS_PHOTOGRAPHS", "flickr8k", "dataset_flickr8k.json")


@pytest.fixture(scope="session")
def weights() -> Path:
    """A folder with small pretrained vision weights; not shipped."""
    return _folder("VISAVIS_WEIGHTS", "weights", "yolox_nano.onnx")
