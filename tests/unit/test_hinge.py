"""Hinge losses: by hand, by slow loops, and by what must not change them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.errors import RecipeError
from visavis.losses import loss_function
from visavis.types import Scores

HINGES = ("sum_hinge", "hardest_hinge")
both = pytest.mark.parametrize("name", HINGES)


def slow(scores: Tensor, positives: Tensor, margin: float, *, hardest: bool) -> float:
    """Each row and each column in turn, element by element."""
    total = 0.0
    for direction in (0, 1):
        right, table = (positives, scores) if direction == 0 else (positives.T, scores.T)
        for line in range(len(table)):
            own = float(table[line, line])
            others = [float(s) for s, p in zip(table[line], right[line], strict=True) if not p]
            hinges = [max(0.0, margin + other - own) for other in others]
            total += (max(hinges, default=0.0)) if hardest else sum(hinges)
    return total


def block_positives(groups: list[int]) -> Tensor:
    """Rows and columns of one group belong together, as two sentences of one image do."""
    numbers = torch.tensor(groups)
    return numbers[:, None] == numbers[None, :]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, float]:
    size = draw(st.integers(1, 6))
    values = draw(st.lists(st.floats(-1, 1, width=32), min_size=size**2, max_size=size**2))
    groups = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    margin = draw(st.sampled_from([0.0, 0.05, 0.2, 1.0]))
    return torch.tensor(values).view(size, size), block_positives(groups), margin


def value_of(name: str, scores: Tensor, positives: Tensor, margin: float = 0.2) -> Tensor:
    """A loss of one matrix for both directions."""
    return loss_function(name)(Scores.shared(scores), positives, margin)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_both_losses_equal_a_slow_loop(case: tuple[Tensor, Tensor, float]) -> None:
    for name, hardest in (("sum_hinge", False), ("hardest_hinge", True)):
        found = value_of(name, *case).item()
        assert found == pytest.approx(slow(*case, hardest=hardest), abs=1e-4), name


@settings(max_examples=30, deadline=None)
@given(cases(), st.floats(-5, 5, width=32))
def test_a_constant_added_to_all_scores_changes_nothing(
    case: tuple[Tensor, Tensor, float], constant: float
) -> None:
    scores, positives, margin = case
    for name in HINGES:
        moved = value_of(name, scores + constant, positives, margin).item()
        assert moved == pytest.approx(value_of(name, *case).item(), abs=1e-4), name


@settings(max_examples=30, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(
    case: tuple[Tensor, Tensor, float],
    random: object,
) -> None:
    scores, positives, margin = case
    order = list(range(len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for name in HINGES:
        found = value_of(name, scores[order][:, order], positives[order][:, order], margin)
        assert found.item() == pytest.approx(value_of(name, *case).item(), abs=1e-4), name


def test_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.3], [0.1, 0.5, 0.45], [0.6, 0.2, 0.7]])
    positives = torch.eye(3, dtype=torch.bool)
    # rows: .1; .15; .1                columns: 0; .5 (row 0); 0 and 0
    assert value_of("hardest_hinge", scores, positives, 0.2).item() == pytest.approx(0.85)
    # rows: .1 + 0; 0 + .15; .1 + 0    columns: 0 + 0; .5 + 0; 0 + 0
    assert value_of("sum_hinge", scores, positives, 0.2).item() == pytest.approx(0.85)
    # With margin 0.5 rows give .4 + 0, .1 + .45, .4 + 0, columns 0 + .2, .8 + .2, .1 + .25.
    assert value_of("sum_hinge", scores, positives, 0.5).item() == pytest.approx(2.9)
    assert value_of("hardest_hinge", scores, positives, 0.5).item() == pytest.approx(2.5)


@pytest.mark.parametrize(("name", "expected"), [("hardest_hinge", 0.8), ("sum_hinge", 0.9)])
def test_each_sentence_of_an_image_is_compared_with_its_own_score(
    name: str, expected: float
) -> None:
    # The first two pairs are one image with a sentence that fits well and one that does not.
    scores = torch.tensor([[0.9, 0.3, 0.5], [0.9, 0.3, 0.5], [0.2, 0.4, 0.6]])
    # rows: 0 (own .9, rival .5); .4 (own .3); 0    columns: 0; .3 (own .3, rival .4); .1 twice
    found = value_of(name, scores, block_positives([0, 0, 1]))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), [("hardest_hinge", 0.7), ("sum_hinge", 0.8)])
def test_sentences_compete_in_one_matrix_and_images_in_the_other(
    name: str, expected: float
) -> None:
    i2t = torch.tensor([[0.5, 0.4, 0.4], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
    t2i = torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.5, 0.0], [0.8, 0.9, 0.9]])
    # i2t, row 0: .1 and .1; its columns do not count    t2i, columns: .1; .6; 0
    found = loss_function(name)(Scores(i2t, t2i), torch.eye(3, dtype=torch.bool), 0.2)
    assert found.item() == pytest.approx(expected + 0.1)


@both
def test_without_a_margin_perfect_scores_cost_nothing(name: str) -> None:
    scores = torch.tensor([[0.9, 0.2], [0.1, 0.8]])
    assert value_of(name, scores, torch.eye(2).bool(), 0.0).item() == 0


@both
def test_two_sentences_of_one_image_are_no_negatives(name: str) -> None:
    scores = torch.tensor([[0.5, 0.9, -1.0], [0.5, 0.9, -1.0], [-1.0, -1.0, 0.5]])
    together = block_positives([0, 0, 1])
    assert value_of(name, scores, together).item() == 0
    assert value_of(name, scores, torch.eye(3).bool()).item() > 0.5


@both
def test_a_batch_without_any_negative_costs_nothing_and_has_finite_gradients(name: str) -> None:
    scores = torch.randn(3, 3, requires_grad=True)
    value = value_of(name, scores, torch.ones(3, 3).bool())
    value.backward()
    assert value.item() == 0
    assert torch.equal(scores.grad, torch.zeros(3, 3))  # type: ignore[arg-type]


@both
def test_gradients_equal_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    positives = block_positives([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda s: value_of(name, s, positives, 0.3), (scores,))


def test_equal_scores_cost_twice_the_margin_for_each_pair() -> None:
    value = value_of("hardest_hinge", torch.full((128, 128), 0.7), torch.eye(128).bool())
    assert value.item() == pytest.approx(51.2, rel=1e-5)


def test_a_tie_of_rivals_moves_only_one_of_them() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.5]] * 3, requires_grad=True)
    value_of("hardest_hinge", scores, torch.eye(3).bool()).backward()
    assert scores.grad is not None
    pushed = (scores.grad * ~torch.eye(3, dtype=torch.bool)) > 0
    assert pushed.sum() < 6  # not every rival alike: equal scores can come apart


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"objective\.loss: no loss 'hardest_hing'; did you mean"):
        loss_function("hardest_hing")
