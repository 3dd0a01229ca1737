"""Small models and inputs for tests: every model of the table, a few regions, a few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from visavis.models import config_class, model_class
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

M = TypeVar("M", bound=nn.Module)

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
    "saem": ("saem", {"heads": 2, "hidden": 12, "filters": 6}),
    "saem-all": ("saem", {"heads": 4, "hidden": 12, "filters": 6, "positions": "all"}),
    "bfan-equal": ("bfan", {}),
    "bfan-prob": ("bfan", {"focal": "prob"}),
    "bfan-t2i": ("bfan", {"direction": "t2i"}),
    "bfan-i2t": ("bfan", {"direction": "i2t", "focal": "prob"}),
    "bfan-plain": ("bfan", {"plain": True}),
    "vsrn": ("vsrn", {"caption": {"dim": 5, "word_dim": 4}}),
    "vsrn-f30k": ("vsrn", {"normalise_regions": False, "batch_norm": True, "legacy": True}),
    "vsrn-coco": ("vsrn", {"legacy": True, "sentence_pooling": "mean", "caption": {"weight": 0.0}}),
    "mmca": ("mmca", {"heads": 2, "filters": 6}),
    "mmca-shared": ("mmca", {"heads": 4, "filters": 6, "share_cnn": True, "layer_norm": True}),
    "mmca-plain": ("mmca", {"heads": 2, "filters": 6, "plain": True}),
    "camp": ("camp", {}),
    "camp-concat": ("camp", {"fusion": "concat", "affinity_dim": 5}),
    "camp-scalar": ("camp", {"gate": "scalar", "residual": False}),
    "camp-v1": (
        "camp",
        {"variant": "code_v1", "gate": "scalar", "fusion": "concat", "heads": 2},
    ),
    "camp-new": (
        "camp",
        {"variant": "code_new", "gate": "scalar", "fusion": "concat", "heads": 2},
    ),
    "camp-plain": ("camp", {"plain": True}),
    "dcpa": ("dcpa", {"heads": 2, "hidden": 12, "filters": 6, "top_k": 3}),
    "dcpa-shared": ("dcpa", {"heads": 4, "filters": 6, "decoupled": False, "attention_bias": True}),
    "dcpa-global": (
        "dcpa",
        {"heads": 2, "filters": 6, "intra_aggregation": "global", "inter_aggregation": "global"},
    ),
    "mtfn": ("mtfn", {"rank": 3, "sentence_pooling": "mean"}),
    "mtfn-skip-thought": (
        "mtfn",
        {
            "rank": 2,
            "legacy": True,
            "text": {"encoder": "skip_thought", "word_dim": 6, "state_dim": 7},
        },
    ),
    "mtfn-attention": (
        "mtfn",
        {"rank": 3, "fusion_dim": 5, "sentence_pooling": "max", "attention": True},
    ),
    "mtfn-local": ("mtfn", {"rank": 3, "features": "local", "legacy": True, "text_text": False}),
    "mtfn-plain": ("mtfn", {"rank": 3, "sentence_pooling": "mean", "plain": True}),
    **{
        f"mtfn-{fusion}": (
            "mtfn",
            {
                "fusion": fusion,
                "sentence_pooling": "mean",
                "attention": fusion != "sum",
                "text_text": False,
                "hidden": 12,
                "layers": 2,
            },
        )
        for fusion in ("sum", "product", "concatenation")
    },
    "dcpa-plain": ("dcpa", {"heads": 2, "hidden": 12, "filters": 6, "top_k": 3, "plain": True}),
}


def tiny_model(variant: str, seed: int = 0) -> nn.Module:
    name, settings = VARIANTS[variant]
    torch.manual_seed(seed)
    text = {"word_dim": 6, "bidirectional": name not in ("vse", "vsrn")}
    values = {"region_dim": REGION_DIM, "vocab_size": VOCAB, "dim": DIM, "text": text, **settings}
    from visavis.config import build

    model: nn.Module = model_class(name)(build(config_class(name), values))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # one that starts at 0 hides what stands before it
            nn.init.uniform_(module.weight, 0.5, 1.0)
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


def twin(model: M, **settings: Any) -> M:
    """The same weights with other settings."""
    config: Any = model.config
    found = type(model)(replace(config, **settings))
    found.load_state_dict(model.state_dict())
    return found.train(model.training)


def encoded(
    model: Matcher, left: ImageBatch | None = None, right: SentenceBatch | None = None
) -> tuple[Encoded, Encoded]:
    return model.encode_images(left or images()), model.encode_sentences(right or sentences())


def scores_of(
    model: Matcher, left: ImageBatch | None = None, right: SentenceBatch | None = None
) -> Tensor:
    """Of every image with every sentence, for images that ask."""
    return model.score(*encoded(model, left, right)).i2t


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)
