"""Attention of every head in its two layouts, and what models make of either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny import images, sentences, tiny_model
from visavis.layers import heads, joint_attention, phrase_attention
from visavis.layers.heads import by_head, by_item

sizes = st.integers(1, 4)


def slow(query: Tensor, keys: Tensor, first: Tensor | None) -> Tensor:
    """Softmax of one query's inner products with some keys, with `first` before them."""
    logits = [query @ key for key in keys]
    return torch.stack(logits if first is None else [first, *logits]).softmax(dim=0)


@settings(max_examples=25, deadline=None)
@given(h=sizes, x=sizes, b=sizes, s=sizes, seed=st.integers(0, 99), merged=st.booleans())
def test_both_layouts_equal_a_loop(h: int, x: int, b: int, s: int, seed: int, merged: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(h, x, 3, generator=generator)
    keys = torch.randn(b, h, s, 3, generator=generator)
    mask = torch.rand(b, s, generator=generator) > 0.4
    mask[:, 0] = True
    first = torch.randn(h, x, generator=generator) if merged else None
    head = by_head(queries, keys.transpose(0, 1), mask, first)
    turned = by_head(queries, keys.permute(1, 2, 0, 3), mask.T, first, over=1)
    item = by_item(queries[None], keys, mask, None if first is None else first[None])
    for i in range(b):
        for j in range(h):
            for k in range(x):
                own = None if first is None else first[j, k]
                expected = slow(queries[j, k], keys[i, j][mask[i]], own)
                real = mask[i] if own is None else torch.cat([torch.tensor([True]), mask[i]])
                for found in (head[j, i, :, k], turned[j, :, i, k], item[i, j, k]):
                    torch.testing.assert_close(found[real], expected)
                    assert not found[~real].any()


@pytest.mark.parametrize("variant", ["mmca", "dcpa", "dcpa-shared"])
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("fold", [False, True])
def test_the_way_chosen_does_not_change_scores_or_gradients(
    variant: str, turn: bool, fold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = tiny_model(variant)

    def scored() -> list[Tensor]:
        model.zero_grad()
        found = model.score(model.encode_images(images()), model.encode_sentences(sentences()))
        (found.i2t.sin().sum() + found.t2i.cos().sum()).backward()
        gradients = [entry.grad.clone() for entry in model.parameters() if entry.grad is not None]
        return [found.i2t.detach(), found.t2i.detach(), *gradients]

    expected = scored()
    for module in (joint_attention, phrase_attention):
        monkeypatch.setattr(module, "turns", lambda many, tokens: turn)
    monkeypatch.setattr(phrase_attention, "folds", lambda many, values: fold)
    for one, other in zip(scored(), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_turning_pays_for_many_tokens_that_look_at_few() -> None:
    assert heads.turns(75 * 36, 14)
    assert not heads.turns(14, 36)


def test_mapping_values_pays_for_short_sentences_and_many_that_look() -> None:
    def values(tokens: int, count: int = 16) -> Tensor:
        return torch.empty(1, count, tokens, 256 // count)

    assert phrase_attention.folds(75 * 36, values(14))  # 16 x 14 < 14 + 256
    assert not phrase_attention.folds(75 * 36, values(36))
    assert phrase_attention.folds(75 * 14, values(36, count=4))
    assert not phrase_attention.folds(10, values(14))  # the maps of the values cost more
