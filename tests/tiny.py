"""Small models and inputs for tests: every model of the table, a few regions, a few words."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visavis.models import config_class, model_class
from visavis.types import ImageBatch, SentenceBatch

REGION_DIM, VOCAB, DIM = 10, 20, 8

# Settings beyond the sizes; the same model may be tested with several.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vse": ("vse", {}),
    "vse-order": ("vse", {"measure": "order", "absolute": True}),
    "vse-groups": ("vse", {"region_groups": [2, 3]}),
    "vse-max": ("vse", {"image_pooling": "max", "sentence_pooling": "max"}),
    "scan-t2i": ("scan", {}),
    "scan-i2t": ("scan", {"direction": "i2t", "lambda_softmax": 4.0, "aggregation": "Mean"}),
    "scan-softmax": ("scan", {"feature_norm": "softmax", "aggregation": "Max"}),
    "scan-standardised": ("scan", {"standardise_regions": True}),
    "scan-l1": ("scan", {"feature_norm": "clipped_l1norm", "aggregation": "Sum"}),
}


def tiny_model(variant: str, seed: int = 0) -> nn.Module:
    name, settings = VARIANTS[variant]
    torch.manual_seed(seed)
    text = {"word_dim": 6, "bidirectional": name != "vse"}
    values = {"region_dim": REGION_DIM, "vocab_size": VOCAB, "dim": DIM, "text": text, **settings}
    from visavis.config import build

    model: nn.Module = model_class(name)(build(config_class(name), values))
    return model.eval()


def images(lengths: tuple[int, ...] = (5, 3, 5, 1, 4, 5), seed: int = 1) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    regions = torch.randn(len(lengths), max(lengths), REGION_DIM, generator=generator)
    return ImageBatch(regions * mask[:, :, None], mask)


def sentences(lengths: tuple[int, ...] = (4, 1, 6, 3, 2, 6, 5), seed: int = 2) -> SentenceBatch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(4, VOCAB, mask.shape, generator=generator)
    return SentenceBatch(ids * mask, mask)
