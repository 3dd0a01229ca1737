"""Gradients through the pairs that count are the gradients through all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import VARIANTS, images, sentences, tiny_model
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.scoring.active import loss_of_active
from visavis.scoring.matrix import score_stripe
from visavis.types import Encoded, Scores

LENGTHS = (4, 1, 6, 3, 2, 6)  # as many sentences as images
EYE = torch.eye(len(LENGTHS), dtype=torch.bool)


def hardest(scores: Scores) -> Tensor:
    return hardest_hinge(scores, EYE, 0.2)


def every(scores: Scores) -> Tensor:
    return sum_hinge(scores, EYE, 0.05)


def gradients(
    model: Any, value: Callable[[Any, Encoded, Encoded], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    torch.manual_seed(4)
    left, right = model.encode_images(images()), model.encode_sentences(sentences(LENGTHS))
    loss = value(model, left, right)
    torch.autograd.backward(loss)
    return loss.detach(), [entry.grad for entry in model.parameters() if entry.grad is not None]


@pytest.mark.parametrize("loss", [hardest, every])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_are_those_of_the_whole_matrix(
    variant: str, loss: Callable[[Scores], Tensor]
) -> None:
    model = tiny_model(variant)
    expected = gradients(model, lambda m, i, s: loss(score_stripe(m, i, s)))
    found = gradients(model, lambda m, i, s: loss_of_active(m, i, s, loss, budget_bytes=900))
    assert found[0] == pytest.approx(expected[0].item(), rel=1e-5, abs=1e-6)
    assert len(found[1]) == len(expected[1]) > 0
    for ours, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=3e-5)


def test_only_pairs_that_move_the_loss_are_scored_with_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = tiny_model("scan-t2i")
    counted = []
    original = model.score_pairs

    def counting(left: Encoded, right: Encoded) -> Scores:
        counted.append(len(left))
        found: Scores = original(left, right)
        return found

    monkeypatch.setattr(model, "score_pairs", counting)
    left, right = model.encode_images(images()), model.encode_sentences(sentences(LENGTHS))

    def one_pair(scores: Scores) -> Tensor:
        return scores.i2t[2, 3] - 0.5 * scores.i2t[4, 1]

    loss = loss_of_active(model, left, right, one_pair)
    assert sum(counted) == 2
    expected = one_pair(score_stripe(model, left, right))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_satisfied_loss_has_no_gradient_and_scores_nothing_again() -> None:
    model: Any = tiny_model("vse")
    left, right = model.encode_images(images()), model.encode_sentences(sentences(LENGTHS))
    loss = loss_of_active(model, left, right, lambda scores: (scores.i2t - 5).clamp_min(0).sum())
    assert loss.item() == 0
