"""What benchmarks are made of: settings, drawn items, models and the operations that they need."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from benchmarks.machine import MIB

from visavis.config import build
from visavis.models import config_class, model_class
from visavis.scoring.matrix import Block
from visavis.types import Encoded, ImageBatch, SentenceBatch

REGIONS, REGION_DIM, VOCABULARY = 36, 2048, 8000
AT_ONCE = 128  # items that are encoded together
DISTINCT = 256  # items that are drawn and encoded; of more, these are repeated
FEW_VECTORS = 32  # the same where an item is one vector, which says nothing about time

Kind = Literal["published", "plain", "engine", "bf16", "train", "recompute"]
FORMS: tuple[Kind, ...] = ("published", "plain", "engine", "bf16")
STEPS: tuple[Kind, ...] = ("train", "recompute")
OF_VECTORS = ("mtfn", "saem", "vse", "vsrn")  # their score is one inner product

# What is measured under which name; the name of a model alone is the model as it is by default.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "scan t2i": ("scan", {}),
    "scan i2t": ("scan", {"direction": "i2t", "lambda_softmax": 4.0, "lambda_lse": 5.0}),
    "bfan equal": ("bfan", {}),
    "bfan prob": ("bfan", {"focal": "prob"}),
    "camp paper": ("camp", {}),
    "camp code_v1": ("camp", {"variant": "code_v1", "gate": "scalar", "fusion": "concat"}),
    **{name: (name, {}) for name in ("mmca", "dcpa", *OF_VECTORS)},
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one line measures."""

    model: str  # of `VARIANTS`, or of the table of models
    kind: Kind = "engine"
    images: int
    sentences: int
    values: tuple[tuple[str, object], ...] = ()  # further settings of the model beside its sizes
    dim: int = 0  # 0: the width that the model has by default
    threads: int = 1
    budget_mib: float = Block().budget_bytes / MIB
    memory_mib: float = 64.0  # streaming: all that it holds beside its inputs
    rows: int = Block().rows
    patience: float = 4.0  # seconds of measuring
    seed: int = 0

    @property
    def family(self) -> str:
        """The model's name in the table of models."""
        return VARIANTS.get(self.model, (self.model, {}))[0]

    @property
    def block(self) -> Block:
        """How the engine scores."""
        return Block(
            rows=self.rows,
            budget_bytes=int(self.budget_mib * MIB),
            memory_bytes=int(self.memory_mib * MIB),
            precision="bf16" if self.kind == "bf16" else "fp32",
        )


def draw(config: Any, setting: Setting) -> tuple[ImageBatch, SentenceBatch]:  # noqa: ANN401
    """Images of 36 regions and sentences of about 14 words (5 to 40), for a model of any kind."""
    generator = torch.Generator().manual_seed(setting.seed)
    regions = torch.randn(setting.images, REGIONS, config.region_dim, generator=generator)
    images = ImageBatch(regions, torch.ones(regions.shape[:2], dtype=torch.bool))
    lengths = 14 + 4 * torch.randn(setting.sentences, generator=generator)
    lengths = lengths.round().clamp(5, 40)
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    ids = torch.randint(4, VOCABULARY, mask.shape, generator=generator) * mask
    states = None
    if config.text.encoder == "frozen":
        states = torch.randn(*mask.shape, config.text.state_dim, generator=generator)
        states = states * mask.unsqueeze(2)
    return images, SentenceBatch(ids, mask, states)


def make_model(setting: Setting, *, straight: bool = False) -> Any:  # noqa: ANN401
    """A model with weights drawn from the seed, in evaluation mode; straight: by the equations."""
    name, own = VARIANTS.get(setting.model, (setting.model, {}))
    cls = config_class(name)
    values: dict[str, Any] = {"region_dim": REGION_DIM, "vocab_size": VOCABULARY}
    values |= own | dict(setting.values)
    if setting.dim:
        values["dim"] = setting.dim
    if straight and name not in ("saem", "vse", "vsrn"):  # these have one form alone
        values["plain"] = True
    torch.manual_seed(setting.seed)
    with torch.inference_mode(mode=False):  # parameters must know when they change
        return model_class(name)(build(cls, values)).eval()


def encoded(model: Any, images: ImageBatch, sentences: SentenceBatch) -> tuple[Encoded, Encoded]:  # noqa: ANN401
    """All images and all sentences, a few at a time."""
    sides = ((model.encode_images, images), (model.encode_sentences, sentences))
    left, right = (
        Encoded.join(
            [
                encode(items.select(slice(start, start + AT_ONCE)))
                for start in range(0, len(items), AT_ONCE)
            ]
        )
        for encode, items in sides
    )
    return left, right


def items_of(model: Any, setting: Setting) -> tuple[Encoded, Encoded]:  # noqa: ANN401
    """The items of a setting, encoded; of many, the first `DISTINCT`, which are then repeated."""
    most = FEW_VECTORS if setting.family in OF_VECTORS else DISTINCT
    few = replace(setting, images=min(setting.images, most), sentences=min(setting.sentences, most))
    return encoded(model, *draw(model.config, few))


def needed_flops(model: Any, images: Encoded, sentences: Encoded) -> int:  # noqa: ANN401
    """Operations of every image with every sentence, without padding."""
    return flops_of(model, images.mask.sum(dim=1), sentences.mask.sum(dim=1))


def flops_of(model: Any, regions: torch.Tensor, words: torch.Tensor) -> int:  # noqa: ANN401
    """The same from the number of real tokens of each item; one vector each side: its product."""
    left, right = (Counter(counts.tolist()) for counts in (regions, words))
    one = getattr(model, "pair_flops", lambda *_: 2 * model.config.dim)
    return sum(
        many * more * int(one(first, second))
        for first, many in left.items()
        for second, more in right.items()
    )
