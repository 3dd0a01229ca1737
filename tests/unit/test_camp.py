"""CAMP: the fast form equals the equations, and both equal eq. 1-13 by loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.camp import (
    CODE,
    every_setting,
    model_of,
    straight,
)
from tests.tiny import close, encoded, images, scores_of, sentences
from visavis.metrics.ranks import ranks
from visavis.models.camp import Camp
from visavis.scoring.matrix import score_matrix
from visavis.types import ImageBatch, Scores, SentenceBatch

CASES = [((5, 3, 5, 1, 4, 5), (4, 1, 6, 3, 2, 6, 5)), ((1,), (1,)), ((1, 2), (1,)), ((4,), (1, 1))]


@every_setting
@pytest.mark.parametrize(("regions", "words"), CASES)
def test_fast_scores_equal_those_of_single_pairs(
    values: dict[str, Any], regions: tuple[int, ...], words: tuple[int, ...]
) -> None:
    model = model_of(**values)
    sides = images(regions), sentences(words)
    close(scores_of(model, *sides), scores_of(straight(model), *sides))


@every_setting
def test_fast_gradients_equal_those_of_single_pairs(values: dict[str, Any]) -> None:
    model = model_of(**values).train()
    other = straight(model)
    for each in (model, other):
        (scores_of(each) * torch.linspace(-1, 1, 42).view(6, 7)).sum().backward()
    expected = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        none = torch.zeros_like(parameter)
        grad, wanted = parameter.grad, expected[name].grad
        close(none if grad is None else grad, none if wanted is None else wanted, atol=2e-5)


@every_setting
def test_pairs_equal_the_diagonal(values: dict[str, Any]) -> None:
    model = model_of(**values)
    sides = images((5, 3, 1)), sentences((4, 1, 6))
    for each in (model, straight(model)):
        left, right = encoded(each, *sides)
        close(each.score_pairs(left, right).i2t, each.score(left, right).i2t.diagonal())


@every_setting
def test_padding_never_changes_a_score(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = images(), sentences()
    wide = ImageBatch(
        functional.pad(left.regions, (0, 0, 0, 3), value=7.0), functional.pad(left.mask, (0, 3))
    )
    long = SentenceBatch(
        functional.pad(right.ids, (0, 4), value=5), functional.pad(right.mask, (0, 4))
    )
    expected = scores_of(model, left, right)
    for each in (model, straight(model)):
        close(scores_of(each, wide, long), expected)


@settings(max_examples=15, deadline=None)
@given(masks=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4))
def test_any_masks_give_the_scores_of_single_pairs(masks: list[list[bool]]) -> None:
    mask = torch.tensor(masks)
    mask[:, 0] |= ~mask.any(dim=1)  # each item has something real
    either: list[dict[str, Any]] = [{}, CODE]
    for values in either:
        model = model_of(**values)
        left, right = encoded(model, images((4, 4)), sentences((4, 4)))
        sides = (
            model._encoded(left.tokens, mask[:2], model.regions, model.words),
            model._encoded(right.tokens, mask[2:], model.words, model.regions),
        )
        close(model.score(*sides).i2t, straight(model).score(*sides).i2t)


def vector(tensor: Tensor) -> list[float]:
    found: list[float] = tensor.tolist()
    return found


def dot(left: list[float], right: list[float]) -> float:
    return sum(x * y for x, y in zip(left, right, strict=True))


def times(layer: nn.Module, x: list[float]) -> list[float]:
    """A linear map, row by row."""
    bias = vector(layer.bias) if isinstance(layer.bias, Tensor) else None
    rows = [dot(vector(row), x) for row in layer.get_parameter("weight")]
    return rows if bias is None else [a + b for a, b in zip(rows, bias, strict=True)]


def softmax(logits: list[float]) -> list[float]:
    exps = [math.exp(x) for x in logits]
    return [x / sum(exps) for x in exps]


def combined(weights: list[float], rows: list[list[float]]) -> list[float]:
    return [
        sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in range(len(rows[0]))
    ]


def by_loops(model: Camp, v: list[list[float]], t: list[list[float]]) -> float:
    """The logit of eq. 13 for one pair, number by number."""
    summaries = []
    for side, other, own, seen in (
        (model.regions, model.words, v, t),
        (model.words, model.regions, t, v),
    ):
        fused = []
        for x in own:
            keys = [times(other.key, y) for y in seen]
            query = times(side.key, x)
            looks = softmax([dot(query, key) / math.sqrt(len(key)) for key in keys])  # eq. 1-2
            message = combined(looks, seen)  # eq. 3
            gate = [1 / (1 + math.exp(-a * b)) for a, b in zip(x, message, strict=True)]  # eq. 5
            inner = [g * (a + b) for g, a, b in zip(gate, x, message, strict=True)]
            mapped = times(side.fusion.linear, inner)
            fused.append([max(0.0, m) + a for m, a in zip(mapped, x, strict=True)])  # eq. 6
        weight = vector(side.pool.linear.weight[0])
        shares = softmax([dot(weight, x) / math.sqrt(len(weight)) for x in fused])  # eq. 10
        summaries.append(combined(shares, fused))
    both = [a + b for a, b in zip(*summaries, strict=True)]
    hidden = [max(0.0, x) for x in times(model.mlp[0], both)]
    return times(model.mlp[2], hidden)[0]  # eq. 13 before its sigmoid


def test_two_regions_and_three_words_match_as_the_equations_by_loops() -> None:
    model = model_of(dim=4, affinity_dim=3)
    v = [[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.5, 1.0]]
    t = [[-1.0, 2.0, 0.75, -0.25], [0.3, 0.1, -0.6, 0.9], [1.0, 1.0, -1.0, 0.0]]
    model.regions.fusion.linear.bias.data.fill_(0.1)  # biases start at 0
    model.mlp[0].get_parameter("bias").data.fill_(-0.05)
    left = model._encoded(torch.tensor([v]), torch.ones(1, 2).bool(), model.regions, model.words)
    right = model._encoded(torch.tensor([t]), torch.ones(1, 3).bool(), model.words, model.regions)
    assert model.score(left, right).i2t.item() == pytest.approx(by_loops(model, v, t), abs=1e-5)


def test_saturated_probabilities_do_not_tie_because_logits_rank() -> None:
    model = model_of()
    with torch.no_grad():
        model.mlp[2].get_parameter("bias").add_(60.0)
    left, right = encoded(model)
    scores = score_matrix(model, left, right)
    pairs = np.array([[int(row), column] for column, row in enumerate(scores.t2i.argmax(dim=0))])
    assert (scores.i2t.sigmoid() == 1).all()  # m alone would make all pairs equal
    assert ranks(scores, pairs).t2i.tolist() == [0] * 7
    assert ranks(Scores.shared(scores.i2t.sigmoid()), pairs).t2i.tolist() == [5] * 7
