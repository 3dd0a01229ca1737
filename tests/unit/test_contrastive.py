"""The smooth form of the hardest negative's hinge."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from visavis.losses import loss_function
from visavis.losses.contrastive import contrastive
from visavis.losses.hinge import hardest_hinge
from visavis.training.config import ObjectiveConfig
from visavis.types import Scores

EYE = torch.eye(6, dtype=torch.bool)


def drawn(*, decoupled: bool = False) -> Scores:
    torch.manual_seed(3)
    matrix = torch.rand(6, 6) * 2 - 1
    return Scores(matrix, torch.rand(6, 6) * 2 - 1) if decoupled else Scores.shared(matrix)


def test_without_a_margin_it_is_cross_entropy_times_the_temperature() -> None:
    scores, labels = drawn(decoupled=True), torch.arange(6)
    expected = functional.cross_entropy(scores.i2t / 0.1, labels, reduction="sum")
    expected += functional.cross_entropy(scores.t2i.T / 0.1, labels, reduction="sum")
    assert contrastive(scores, EYE, 0.0, 0.1).item() == pytest.approx(0.1 * expected.item())


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_cold_it_is_the_hinge_of_the_hardest_negative(margin: float) -> None:
    scores = drawn(decoupled=True)
    assert contrastive(scores, EYE, margin, 1e-4).item() == pytest.approx(
        hardest_hinge(scores, EYE, margin).item(), abs=1e-2
    )


def test_other_pairs_of_the_ground_truth_are_no_negatives() -> None:
    scores, positives = drawn(), EYE.clone()
    positives[0, 3] = positives[3, 0] = True
    matrix = scores.i2t.clone()
    matrix[0, 3] = matrix[3, 0] = 50.0
    found = contrastive(Scores.shared(matrix), positives, 0.2, 0.05)
    assert found.item() == pytest.approx(contrastive(scores, positives, 0.2, 0.05).item())


def test_a_row_without_negatives_adds_nothing_and_has_no_gradient() -> None:
    matrix = torch.rand(1, 1, requires_grad=True)
    found = contrastive(Scores.shared(matrix), torch.ones(1, 1, dtype=torch.bool), 0.2, 0.05)
    found.backward()
    assert found.item() == 0.0
    assert matrix.grad is not None
    assert matrix.grad.tolist() == [[0.0]]


def test_equal_scores_are_no_place_to_rest() -> None:
    matrix = torch.zeros(6, 6, requires_grad=True)
    contrastive(Scores.shared(matrix), EYE, 0.2, 0.05).backward()
    assert matrix.grad is not None
    assert bool((matrix.grad.diagonal() < -1).all())
    assert bool((matrix.grad[~EYE] > 0).all())


def test_a_recipe_sets_the_temperature() -> None:
    scores = drawn()
    found = loss_function("contrastive", 0.5)(scores, EYE, 0.1)
    assert found.item() == pytest.approx(contrastive(scores, EYE, 0.1, 0.5).item())
    assert math.isclose(ObjectiveConfig(loss="contrastive").level, 0.0)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        ObjectiveConfig(loss="contrastive", temperature=0.0)
