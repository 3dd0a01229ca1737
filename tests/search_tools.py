"""Models, pictures and indexes so small that a test of search takes a blink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.tiny_corpus import DIM, WORDS
from visavis.config import build
from visavis.data.features import FeatureIdentity
from visavis.data.tokenizer import WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.extract.table import make_extractor
from visavis.models import config_class, model_class
from visavis.models.pretrained import Pretrained
from visavis.search.rows import Arrays, Record, Rows

SENTENCES = ("a red dog on grass", "the blue cat", "a green bird on snow", "a white horse on sand")
CLASSIC = {"regions": 6, "cells": 2, "working_side": 48}
SETTINGS: dict[str, dict[str, Any]] = {
    "scan": {"text": {"word_dim": 6}},
    "vse": {"text": {"word_dim": 6, "bidirectional": False}},
    "dcpa": {"text": {"word_dim": 6}, "heads": 2, "hidden": 8, "filters": 4, "top_k": 2},
    "vsrn": {"text": {"word_dim": 6, "bidirectional": False}, "caption": {"weight": 0.0}},
}


def classic_identity() -> FeatureIdentity:
    return make_extractor("classic", CLASSIC).identity


def classic_dim() -> int:
    return make_extractor("classic", CLASSIC).dim


def model_folder(
    folder: Path, name: str, *, seed: int = 0, identity: FeatureIdentity | None = None
) -> Path:
    """An untrained model that reads vectors of the small `classic` extractor, or of others."""
    torch.manual_seed(seed)
    tokenizer = WordTokenizer(Vocabulary.build([*SENTENCES, " ".join(WORDS)], threshold=0))
    dim = classic_dim() if identity is None else DIM
    values = {"region_dim": dim, "vocab_size": tokenizer.vocab_size, "dim": 8, **SETTINGS[name]}
    model = model_class(name)(build(config_class(name), values)).eval()
    features = identity or classic_identity()
    Pretrained(name, model, tokenizer, features).save_pretrained(folder)
    return folder


def draw(folder: Path, names: Sequence[str], seed: int = 0) -> list[Path]:
    """Pictures of coloured rectangles, no two alike."""
    generator = np.random.default_rng(seed)
    paths = []
    for name in names:
        pixels = np.full((40, 56, 3), generator.integers(0, 255, 3), dtype=np.uint8)
        top, left = generator.integers(2, 18, 2)
        pixels[top : top + 16, left : left + 20] = generator.integers(0, 255, 3)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def some_rows(count: int, seed: int = 0, first: int = 0) -> Rows:
    """Rows with arrays of each type, ids in order."""
    generator = np.random.default_rng(seed)
    records = tuple(
        Record(
            id=f"{number:016x}",
            root="r1",
            path=f"{'even' if number % 2 == 0 else 'odd'}/{number}.jpg",
            width=100 * number,
            height=10,
            taken=None if number % 3 == 0 else f"202{number % 10}-01-01T00:00:00",
            tags=("sea", "it's") if number % 4 == 0 else (),
            model="m",
        )
        for number in range(first, first + count)
    )
    arrays: Arrays = {
        "tokens": generator.standard_normal((count, 3, 4)).astype(np.float16),
        "mask": generator.random((count, 3)) < 0.5,
        "extra_places": generator.integers(0, 9, (count, 2)),
        "vector_own": generator.standard_normal((count, 5)).astype(np.float32),
    }
    return Rows(records, arrays)
