"""Cross attention: the cheap form against the equations, aggregation against slow loops."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.layers.attention import (
    FeatureNorm,
    Side,
    aggregate,
    attended_cosine,
    attended_cosine_pairs,
    attended_cosine_plain,
    attention_weights,
    gram_matrix,
    normalise_affinity,
)

NORMS = get_args(FeatureNorm)
WIDTH = 5


def weigher(norm: Any, smooth: float = 4.0) -> Any:
    return lambda affinity, masks: attention_weights(affinity, masks, norm=norm, smooth=smooth)


def side(rows: list[list[bool]], seed: int, dtype: torch.dtype = torch.float64) -> Side:
    """Unit vectors; padding is 0, as the models leave it."""
    mask = torch.tensor(rows)
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*mask.shape, WIDTH, generator=generator, dtype=dtype)
    vectors = vectors / vectors.norm(dim=2, keepdim=True) * mask.unsqueeze(2)
    return Side(vectors, mask)


def masks(items: int, length: int) -> st.SearchStrategy[list[list[bool]]]:
    row = st.lists(st.booleans(), min_size=length, max_size=length).filter(any)
    return st.lists(row, min_size=items, max_size=items)


@settings(max_examples=60, deadline=None)
@given(masks(3, 4), masks(2, 5), st.sampled_from(NORMS), st.integers(0, 99))
def test_the_cheap_form_equals_the_equations(
    queries: list[list[bool]], sources: list[list[bool]], norm: str, seed: int
) -> None:
    asking, asked = side(queries, seed), side(sources, seed + 100)
    expected = attended_cosine_plain(asking, asked, weigher(norm))
    real = asking.mask[None].expand_as(expected)
    found = attended_cosine(asking, asked, weigher(norm))
    torch.testing.assert_close(found[real], expected[real])
    with_gram = Side(asked.vectors, asked.mask, gram_matrix(asked.vectors))
    assert torch.equal(attended_cosine(asking, with_gram, weigher(norm)), found)


def test_the_equations_by_a_slow_loop() -> None:
    asking = side([[True, True, False], [True, False, False]], 1)
    asked = side([[True, True, True, False], [True, True, False, False]], 2)
    found = attended_cosine_plain(asking, asked, weigher("no_norm", 3.0))
    for b, source in enumerate(asked.vectors):
        vectors = source[asked.mask[b]]
        for a, query in enumerate(asking.vectors):
            for q in range(int(asking.mask[a].sum())):
                weights = [math.exp(3.0 * float(query[q] @ v)) for v in vectors]
                c = sum(w * v for w, v in zip(weights, vectors, strict=True)) / sum(weights)
                cosine = float(query[q] @ c) / float(query[q].norm() * c.norm())
                assert float(found[b, a, q]) == pytest.approx(cosine)


@settings(max_examples=30, deadline=None)
@given(masks(3, 4), masks(3, 5), st.sampled_from(NORMS), st.integers(0, 99))
def test_aligned_pairs_are_the_diagonal(
    queries: list[list[bool]], sources: list[list[bool]], norm: str, seed: int
) -> None:
    asking, asked = side(queries, seed), side(sources, seed + 100)
    pairs = attended_cosine_pairs(asking, asked, weigher(norm))
    whole = attended_cosine(asking, asked, weigher(norm))
    for p in range(3):
        torch.testing.assert_close(pairs[p], whole[p, p])


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_both_forms_are_equal(norm: str) -> None:
    rows = ([[True, True, True], [True, False, False]], [[True] * 4, [True, True, False, False]])
    gradients = []
    for form in (attended_cosine, attended_cosine_plain):
        asking, asked = side(rows[0], 3), side(rows[1], 4)
        leaves = asking.vectors.requires_grad_(), asked.vectors.requires_grad_()
        scores = form(asking, asked, weigher(norm)) * asking.mask[None]
        scores.square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for cheap, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(cheap, plain)


def test_gradients_equal_finite_differences() -> None:
    asking, asked = side([[True, True], [True, False]], 5), side([[True, True, False]], 6)

    def scores(left: Tensor, right: Tensor) -> Tensor:
        # Padding is 0, where a norm has a corner: it is put back before every evaluation.
        return attended_cosine(
            Side(left * asking.mask.unsqueeze(2), asking.mask),
            Side(right * asked.mask.unsqueeze(2), asked.mask),
            weigher("clipped_l2norm"),
        )[:, asking.mask]

    leaves = asking.vectors.requires_grad_(), asked.vectors.requires_grad_()
    assert torch.autograd.gradcheck(scores, leaves)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", [attended_cosine, attended_cosine_plain])
def test_zero_vectors_give_no_nan(form: Any, norm: str) -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    asking = Side(torch.zeros(2, 3, WIDTH, requires_grad=True), mask)
    asked = Side(torch.zeros(2, 3, WIDTH, requires_grad=True), mask)
    scores = form(asking, asked, weigher(norm))
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros(2, 2, 3))
    for items in (asking, asked):
        assert items.vectors.grad is not None
        assert torch.isfinite(items.vectors.grad).all()


@pytest.mark.parametrize("norm", NORMS)
def test_weights_sum_to_one_over_the_real_sources(norm: str) -> None:
    queries = torch.tensor([[True, True, False]])
    sources = torch.tensor([[True, False, True, True]])
    affinity = torch.randn(1, 1, 3, 4) * queries[0][:, None] * sources[0]
    weights = attention_weights(
        affinity,
        (queries[None, :, :, None], sources[:, None, None, :]),
        norm=norm,
        smooth=9.0,
    )
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(1, 1, 3))
    assert not weights[..., 1].any()


def test_affinities_are_normalised_over_the_queries() -> None:
    affinity = torch.tensor([[3.0, -1.0], [4.0, 2.0]])  # (Q, S)
    mask = torch.ones(2, 1, dtype=torch.bool)
    clipped = torch.tensor([[3.0, -0.1], [4.0, 2.0]])
    by_hand = {
        "no_norm": affinity,
        "clipped": clipped,
        "l2norm": affinity / torch.tensor([5.0, 5.0**0.5]),
        "clipped_l2norm": clipped / torch.tensor([5.0, 4.01**0.5]),
        "l1norm": affinity / torch.tensor([7.0, 3.0]),
        "clipped_l1norm": clipped / torch.tensor([7.0, 2.1]),
        "softmax": affinity.exp() / affinity.exp().sum(dim=0),
    }
    assert set(by_hand) == set(NORMS)
    for name, expected in by_hand.items():
        torch.testing.assert_close(normalise_affinity(affinity, mask, name), expected)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(masks(3, 4), st.floats(0.5, 20.0), st.integers(0, 99))
def test_aggregation_equals_a_slow_loop(rows: list[list[bool]], smooth: float, seed: int) -> None:
    mask = torch.tensor(rows)
    relevance = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    for item in range(3):
        real = [float(relevance[item, place]) for place in range(4) if rows[item][place]]
        by_hand = {
            "LogSumExp": math.log(sum(math.exp(smooth * r) for r in real)) / smooth,
            "Max": max(real),
            "Sum": sum(real),
            "Mean": sum(real) / len(real),
        }
        for how, expected in by_hand.items():
            found = aggregate(relevance, mask, how, smooth)[item].item()  # type: ignore[arg-type]
            assert found == pytest.approx(expected, abs=1e-4), how
