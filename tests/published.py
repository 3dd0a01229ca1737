"""Checkpoints as the published codes save them, small, for tests."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.fixtures import DATA
from visavis.convert.convert import ConvertConfig
from visavis.data.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from visavis.errors import CheckpointError, VisavisError

CHECKPOINTS = DATA / "checkpoints"
VOCABULARY = DATA / "text" / "f30k_precomp_vocab.json"
WORDS = len(Vocabulary.load(VOCABULARY))
REGION_DIM, DIM, WORD_DIM = 8, 6, 5
OPTIONS = {
    "cross_attn": "t2i", "lambda_softmax": 9.0, "lambda_lse": 6.0, "agg_func": "Mean",
    "raw_feature_norm": "softmax", "no_imgnorm": False, "no_txtnorm": True,
    "data_name": "f30k_precomp",
}  # fmt: skip


def gru_parts(*, bidirectional: bool = True) -> list[Any]:
    """Weights as SCAN and BFAN save them."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(WORD_DIM, DIM, batch_first=True, bidirectional=bidirectional)
    text = {f"rnn.{name}": value.detach() for name, value in gru.named_parameters()}
    text["embed.weight"] = torch.randn(WORDS, WORD_DIM)
    image = {"fc.weight": torch.randn(DIM, REGION_DIM), "fc.bias": torch.randn(DIM)}
    return [OrderedDict(image), OrderedDict(text)]


def scan_values(**options: Any) -> dict[str, Any]:
    opt = argparse.Namespace(**{**OPTIONS, **options})
    return {"epoch": 7, "model": gru_parts(), "best_rsum": 412.5, "opt": opt, "Eiters": 9}


def written(path: Path, values: object, *, zipped: bool = False) -> Path:
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    return path


def config(**values: Any) -> ConvertConfig:
    return ConvertConfig(**{"vocabulary": VOCABULARY, **values})


def refusal(action: Callable[[], object], kind: type[VisavisError] = CheckpointError) -> str:
    """What is said, which must be one line."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def vocabulary_of(size: int, folder: Path) -> Path:
    words = (PAD, START, END, UNKNOWN, *(f"w{number}" for number in range(size - 4)))
    Vocabulary(words).save(folder / f"{size}.json")
    return folder / f"{size}.json"
