"""The angular loss, by hand and against slow loops over triples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visavis.losses.angular import angular


def pairs(count: int = 5, dim: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2, count, dim, generator=generator)
    images, sentences = torch.nn.functional.normalize(vectors, dim=2)
    return images, sentences


def exponents(anchors: Tensor, candidates: Tensor, excluded: list[list[bool]]) -> list[list[float]]:
    """The f of each anchor with each of its negatives, one triple after the other."""
    found = []
    for i, (anchor, positive) in enumerate(zip(anchors, candidates, strict=True)):
        found.append(
            [
                4 * float((anchor + positive) @ negative) - 4 * float(anchor @ positive)
                for j, negative in enumerate(candidates)
                if not excluded[i][j]
            ]
        )
    return found


def slow(images: Tensor, sentences: Tensor, positives: Tensor, *, hardest: bool) -> float:
    total = 0.0
    for anchors, candidates, excluded in (
        (images, sentences, positives.tolist()),
        (sentences, images, positives.T.tolist()),
    ):
        rows = exponents(anchors, candidates, excluded)
        if hardest:
            total += sum(math.log1p(math.exp(max(row))) for row in rows if row)
        else:
            total += sum(math.log1p(sum(map(math.exp, row))) for row in rows) / len(rows)
    return total


@pytest.mark.parametrize("hardest", [True, False])
def test_it_equals_a_loop_over_triples(hardest: bool) -> None:
    images, sentences = pairs()
    positives = torch.eye(5, dtype=torch.bool)
    expected = slow(images, sentences, positives, hardest=hardest)
    assert angular(images, sentences, positives, hardest=hardest).item() == pytest.approx(expected)


@pytest.mark.parametrize("hardest", [True, False])
def test_pairs_of_one_image_are_not_negatives_of_each_other(hardest: bool) -> None:
    images, sentences = pairs()
    images[3] = images[1]  # two sentences of one image
    positives = torch.eye(5, dtype=torch.bool)
    positives[1, 3] = positives[3, 1] = True
    expected = slow(images, sentences, positives, hardest=hardest)
    found = angular(images, sentences, positives, hardest=hardest)
    assert found.item() == pytest.approx(expected)
    alone = angular(images, sentences, torch.eye(5, dtype=torch.bool), hardest=hardest)
    assert alone > found


def test_positives_are_read_by_image_and_sentence() -> None:
    images, sentences = pairs()
    positives = torch.eye(5, dtype=torch.bool)
    positives[0, 4] = True  # image 0 has sentence 4 too; image 4 does not have sentence 0
    expected = slow(images, sentences, positives, hardest=False)
    assert angular(images, sentences, positives, hardest=False).item() == pytest.approx(expected)


def test_two_opposite_pairs_by_hand() -> None:
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss = angular(pair, pair, torch.eye(2, dtype=torch.bool))  # f = 4 * 2 * -1 - 4 = -12
    assert loss.item() == pytest.approx(4 * math.log1p(math.exp(-12)), rel=1e-3)


@pytest.mark.parametrize("hardest", [True, False])
def test_without_negatives_there_is_no_loss_and_no_gradient(hardest: bool) -> None:
    images, sentences = (vectors.requires_grad_() for vectors in pairs(2))
    loss = angular(images, sentences, torch.ones(2, 2, dtype=torch.bool), hardest=hardest)
    loss.backward()
    assert loss.item() == 0
    assert images.grad is not None
    assert not images.grad.any()


def test_large_exponents_stay_finite() -> None:
    images, sentences = pairs()
    positives = torch.eye(5, dtype=torch.bool)
    for hardest in (True, False):
        loss = angular(40 * images, 40 * sentences, positives, hardest=hardest)
        assert math.isfinite(loss.item())
