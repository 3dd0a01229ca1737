"""Scores from matrix products on bfloat16: how far they lie off, and what stays float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import VARIANTS, images, sentences, tiny_model
from visavis.layers.narrow import for_products, narrow
from visavis.models import config_class, model_class
from visavis.types import Encoded

PRODUCTS = {"mm", "bmm", "addmm", "addmm_", "baddbmm"}
PAIRWISE = [name for name, (model, _) in VARIANTS.items() if model in ("mmca", "dcpa", "camp")]
aten = torch.ops.aten


def scored(model: Any, left: Encoded, right: Encoded, *, half: bool) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = model.score(left, right)
    return found.i2t, found.t2i


@pytest.mark.parametrize("variant", PAIRWISE)
def test_scores_in_bfloat16_are_float32_and_near_the_exact_ones(variant: str) -> None:
    model: Any = tiny_model(variant)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    exact, half = (scored(model, left, right, half=half) for half in (False, True))
    for one, other in zip(exact, half, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, one, atol=0.03, rtol=0)


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations of matrix products by type, and the types that are normalised."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = {torch.float32: 0, torch.bfloat16: 0}
        self.normalised: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            left = args[1] if "add" in name else args[0]
            self.operations[left.dtype] += found.numel() * left.shape[-1]
        if name in ("native_layer_norm", "linalg_vector_norm"):
            self.normalised.add(args[0].dtype)
        return found


@pytest.mark.parametrize("name", ["mmca", "dcpa", "camp"])
def test_products_are_of_bfloat16_and_norms_of_float32(name: str) -> None:
    torch.manual_seed(0)
    config = config_class(name)
    model: Any = model_class(name)(config(region_dim=10, vocab_size=20, dim=64)).eval()
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    with Seen() as seen:
        scored(model, left, right, half=True)
    wide, half = (seen.operations[dtype] for dtype in (torch.float32, torch.bfloat16))
    assert wide < 0.02 * half  # of float32 are only those that give the scores themselves
    assert torch.bfloat16 not in seen.normalised


def test_large_logits_of_camp_do_not_tie() -> None:
    model: Any = tiny_model("camp")
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    with torch.no_grad():
        model.mlp[2].bias.add_(60.0)  # bfloat16 has no number between 60 and 60.25
    assert len(scored(model, left, right, half=True)[0].unique()) == 6 * 7


def test_rounding_happens_only_where_autocast_asks_for_bfloat16() -> None:
    vectors, here = torch.randn(3), torch.device("cpu")
    assert for_products(vectors) is vectors
    assert not narrow(here)
    with torch.autocast("cpu", torch.float16):
        assert for_products(vectors) is vectors
    with torch.autocast("cpu", torch.bfloat16):
        assert narrow(here)
        assert for_products(vectors).dtype == torch.bfloat16
