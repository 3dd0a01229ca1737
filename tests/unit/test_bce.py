"""Cross entropy of pairs: by slow loops, by differences, and where probabilities saturate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.losses import loss_function
from visavis.types import Scores

NAMES = ["hardest_bce", "bce", "hardest_bce_clamped", "bce_clamped", "hardest_hinge_probability"]

every_loss = pytest.mark.parametrize("name", NAMES)


def value_of(name: str, scores: Tensor, positives: Tensor, margin: float = 0.2) -> Tensor:
    """A loss of one matrix for both directions."""
    return loss_function(name)(Scores.shared(scores), positives, margin)


def slow(scores: Tensor, positives: Tensor, *, hardest: bool) -> float:
    """-log m of the pairs and -log(1 - m) of negatives, line by line, with m = sigmoid(score)."""
    total = 0.0
    for table, right in ((scores, positives), (scores.T, positives.T)):
        for line in range(len(table)):
            m = [1 / (1 + math.exp(-float(x))) for x in table[line]]
            total -= math.log(m[line])
            others = [-math.log(1 - p) for p, own in zip(m, right[line], strict=True) if not own]
            if others:
                total += max(others) if hardest else sum(others) / len(others)
    return total


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    size = draw(st.integers(1, 5))
    values = draw(st.lists(st.floats(-6, 6, width=32), min_size=size**2, max_size=size**2))
    groups = torch.tensor(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    return torch.tensor(values).view(size, size), groups[:, None] == groups[None]


@settings(max_examples=40, deadline=None)
@given(cases())
def test_losses_of_logits_equal_a_slow_loop(case: tuple[Tensor, Tensor]) -> None:
    for name, hardest in (("hardest_bce", True), ("bce", False)):
        expected = slow(*case, hardest=hardest)
        assert value_of(name, *case).item() == pytest.approx(expected, rel=1e-4, abs=1e-5), name


@settings(max_examples=40, deadline=None)
@given(cases())
def test_clamped_loss_of_probabilities_is_that_of_logits(case: tuple[Tensor, Tensor]) -> None:
    scores, positives = case
    clamped = value_of("hardest_bce_clamped", scores.sigmoid(), positives).item()
    assert clamped == pytest.approx(value_of("hardest_bce", *case).item(), rel=1e-3, abs=1e-3)


@every_loss
def test_gradients_are_those_of_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    positives = torch.eye(4, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True
    assert torch.autograd.gradcheck(lambda x: value_of(name, x, positives), (scores,))


@every_loss
def test_a_positive_is_nobodys_negative(name: str) -> None:
    scores = torch.tensor([[0.6, 0.9, 0.1], [0.8, 0.7, 0.2], [0.3, 0.1, 0.5]], requires_grad=True)
    positives = torch.eye(3, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True
    value_of(name, scores, positives).backward()
    assert scores.grad is not None
    assert not scores.grad[positives & ~torch.eye(3, dtype=torch.bool)].any()


@pytest.mark.parametrize("name", ["hardest_bce", "bce"])
def test_a_pair_that_is_wrong_beyond_rounding_still_has_a_gradient(name: str) -> None:
    scores = torch.tensor([[-200.0, 150.0], [-150.0, 90.0]], requires_grad=True)
    value = value_of(name, scores, torch.eye(2, dtype=torch.bool))
    value.backward()
    # 200 for each direction of the pair, 150 for its negative as a sentence and as an image
    assert value.item() == pytest.approx(2 * 200 + 2 * 150, rel=1e-5)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0].tolist() == pytest.approx([-2.0, 2.0])
    clamped = torch.tensor([[-200.0, 150.0], [-150.0, 90.0]], requires_grad=True)
    value_of("hardest_bce_clamped", clamped.sigmoid(), torch.eye(2, dtype=torch.bool)).backward()
    assert clamped.grad is not None
    assert not clamped.grad.any()  # what the published clamp does


def test_rivals_among_sentences_and_among_images_are_sought_in_their_own_scores() -> None:
    i2t = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    t2i = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    positives = torch.eye(2, dtype=torch.bool)
    expected = 0.0
    for own, other in ((2.0, 1.0), (3.0, 0.0), (1.0, 0.5), (2.0, -1.0)):
        expected += math.log1p(math.exp(-own)) + math.log1p(math.exp(other))
    for name in ("hardest_bce", "bce"):
        found = loss_function(name)(Scores(i2t, t2i), positives, 0.2).item()
        assert found == pytest.approx(expected, abs=1e-5)
    both = Scores(i2t.sigmoid(), t2i.sigmoid())
    clamped = loss_function("hardest_bce_clamped")(both, positives, 0.2).item()
    assert clamped == pytest.approx(expected, abs=1e-4)


def test_negatives_are_averaged_unless_the_hardest_counts() -> None:
    scores = torch.tensor([[1.0, -1.0, -3.0], [-1.0, 1.0, -1.0], [-3.0, -1.0, 1.0]])
    positives = torch.eye(3, dtype=torch.bool)
    own, near, far = (math.log1p(math.exp(x)) for x in (-1.0, -1.0, -3.0))
    hardest = value_of("hardest_bce", scores, positives).item()
    assert hardest == pytest.approx(6 * own + 6 * near, abs=1e-5)
    mean = value_of("bce", scores, positives).item()
    assert mean == pytest.approx(6 * own + 2 * near + 4 * (near + far) / 2, abs=1e-5)


def test_ranking_loss_of_probabilities_by_hand() -> None:
    scores = torch.tensor([[0.0, -math.log(3.0)], [-50.0, 50.0]])  # m: 1/2, 1/4, 0, 1
    found = value_of("hardest_hinge_probability", scores, torch.eye(2, dtype=torch.bool), 0.3)
    assert found.item() == pytest.approx(0.3 + 0.25 - 0.5, abs=1e-6)


@every_loss
def test_a_batch_without_negatives_has_a_finite_loss(name: str) -> None:
    scores = torch.tensor([[0.4, 0.3], [0.2, 0.6]], requires_grad=True)
    value = value_of(name, scores, torch.ones(2, 2, dtype=torch.bool))
    value.backward()
    assert torch.isfinite(value)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
