"""Blocks that are scored again in the backward pass: the same gradients from less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from tests.tiny import VARIANTS, images, sentences, tiny_model
from visavis.kernels.choose import using
from visavis.scoring.matrix import score_stripe
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


class Dropped(nn.Module):
    """Inner products of tokens of which some are dropped, told apart by direction."""

    def encode_images(self, pictures: ImageBatch) -> Encoded:
        return Encoded(pictures.regions, pictures.mask)

    def encode_sentences(self, texts: SentenceBatch) -> Encoded:
        return Encoded(texts.ids[:, :, None].expand(-1, -1, 10).float(), texts.mask)

    def score(self, left: Encoded, right: Encoded) -> Scores:
        scores = torch.einsum("nrd,mwd->nmrw", left.tokens, right.tokens).sigmoid()
        scores = functional.dropout(scores, 0.5).sum(dim=(2, 3))
        return Scores(scores, scores.square())

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        raise NotImplementedError


def leaves(model: Any) -> tuple[Encoded, Encoded]:
    """Encoded items whose tokens collect gradients."""
    torch.manual_seed(2)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    return (
        replace(left, tokens=left.tokens.detach().requires_grad_()),
        replace(right, tokens=right.tokens.detach().requires_grad_()),
    )


def scored(model: Any, left: Encoded, right: Encoded, *, recompute: bool) -> Scores:
    torch.manual_seed(3)
    return score_stripe(model, left, right, budget_bytes=700, recompute=recompute)


def gradients(model: Any, *, recompute: bool) -> list[Tensor]:
    model.zero_grad()
    left, right = leaves(model)
    scores = scored(model, left, right, recompute=recompute)
    (scores.i2t.square().sum() + scores.t2i.sin().sum()).backward()
    found = [left.tokens.grad, right.tokens.grad, *(entry.grad for entry in model.parameters())]
    return [scores.i2t.detach(), scores.t2i.detach(), *(g for g in found if g is not None)]


def model_of(variant: str) -> Any:
    return Dropped() if variant == "dropout" else tiny_model(variant)


@pytest.mark.parametrize("variant", [*VARIANTS, "dropout"])
def test_blocks_scored_again_have_the_gradients_of_stored_ones(variant: str) -> None:
    model = model_of(variant).train()
    stored, again = (gradients(model, recompute=recompute) for recompute in (False, True))
    assert len(stored) >= 4
    for one, other in zip(stored, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", ["scan-t2i", "scan-i2t", "dropout"])
def test_blocks_scored_again_save_nothing_for_gradients_but_inputs(variant: str) -> None:
    model = model_of(variant)
    left, right = leaves(model)
    with using("eager"):  # a fused form saves nothing else either
        stored, again = (saved_bytes(model, left, right, recompute=way) for way in (False, True))
    inputs = sum(
        tensor.untyped_storage().nbytes()
        for items in (left, right)
        for tensor in (items.tokens, items.mask, *items.extra.values())
    )
    orders = 3 * 8 * len(right)  # of the sentences: sorted, and back for each matrix
    assert again <= inputs + orders
    assert stored > 3 * again


def saved_bytes(model: Any, left: Encoded, right: Encoded, *, recompute: bool) -> int:
    """Bytes of the different pieces of memory that the gradient of a stripe saves."""
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        scores = scored(model, left, right, recompute=recompute)
        assert scores.i2t.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


class Counted(Dropped):
    """Notes the shape of each block, and the memory that its tokens lie in."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[int, int]] = []
        self.memory: set[int] = set()

    def score(self, left: Encoded, right: Encoded) -> Scores:
        self.blocks.append((len(left), len(right)))
        self.memory |= {items.tokens.untyped_storage().data_ptr() for items in (left, right)}
        return super().score(left, right)


def test_each_block_is_scored_once_more_from_views_of_the_inputs() -> None:
    model = Counted()
    left, right = leaves(model)
    scores = scored(model, left, right, recompute=True)
    first = list(model.blocks)
    (scores.i2t.sum() + scores.t2i.sum()).backward()
    assert len(first) > 4
    assert sorted(model.blocks) == sorted(first * 2)
    assert len(model.memory) == 2  # the images, and the sentences in order of length


def test_a_step_adds_up_no_gradient_of_full_size_for_each_block() -> None:
    model: Any = tiny_model("vse")
    left, right = leaves(model)
    scores = score_stripe(model, left, right, budget_bytes=1)
    names = [type(node).__name__ for node in nodes(scores.i2t.grad_fn)]
    assert names.count("MmBackward0") == len(left) * len(right)
    assert names.count("SplitBackward0") + names.count("SplitWithSizesBackward0") == 2


def nodes(root: Any) -> set[Any]:
    found, new = set(), [root]
    while new:
        node = new.pop()
        if node is not None and node not in found:
            found.add(node)
            new += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("again", [False, True])
def test_without_gradients_nothing_is_kept(again: bool) -> None:
    model: Any = tiny_model("scan-t2i")
    left, right = leaves(model)
    with torch.no_grad():
        found = score_stripe(model, left, right, recompute=again)
    torch.testing.assert_close(found.i2t, model.score(left, right).i2t)
    assert not found.i2t.requires_grad
