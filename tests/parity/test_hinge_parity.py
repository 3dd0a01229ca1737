"""Hinge losses against the original implementation, by hand and by a slow loop."""

from __future__ import annotations

import pytest
import torch

from tests.parity.fixtures import load_case
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.types import Scores

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", ["hinge_max", "hinge_sum"])
def test_value_and_gradient_equal_the_original(name: str) -> None:
    case = load_case(name)
    scores = case["input.scores"].requires_grad_()
    loss = hardest_hinge if case.options["max_violation"] else sum_hinge
    value = loss(Scores.shared(scores), torch.eye(len(scores)).bool(), case.options["margin"])
    torch.testing.assert_close(value, case["output.loss"], atol=0, rtol=1e-5)
    value.backward()
    torch.testing.assert_close(scores.grad, case["grad.scores"], atol=1e-4, rtol=0)


def test_collapsed_scores_cost_twice_the_margin_for_each_pair() -> None:
    case = load_case("hinge_max_collapsed")
    scores = case["input.scores"].requires_grad_()
    value = hardest_hinge(Scores.shared(scores), torch.eye(len(scores)).bool(), 0.2)
    torch.testing.assert_close(value, case["output.loss"], atol=0, rtol=1e-5)
    value.backward()
    assert scores.grad is not None
    for axis in (0, 1):
        torch.testing.assert_close(
            scores.grad.sum(dim=axis), case["grad.scores"].sum(dim=axis), atol=1e-4, rtol=0
        )
