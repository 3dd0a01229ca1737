"""Ranks: against a slow loop, by hand, and under changes that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks, ranks, top_one
from visavis.types import Scores

FIVE_EACH = np.array([[j // 5, j] for j in range(50)])


def slow_ranks(matrix: NDArray[np.float64], pairs: NDArray[np.int64]) -> list[int]:
    """The rank of each row, by two loops and one comparison at a time."""
    found = []
    for row in range(matrix.shape[0]):
        right = {int(j) for i, j in pairs if i == row}
        if not right:
            found.append(NO_POSITIVE)
            continue
        best = max(matrix[row, j] for j in right)
        wrong = [j for j in range(matrix.shape[1]) if j not in right]
        found.append(sum(1 for j in wrong if matrix[row, j] >= best))
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[Scores, NDArray[np.int64], int]:
    """Small matrices with many ties, any ground truth, stripes of any height."""
    images, sentences = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    i2t = torch.from_numpy(generator.integers(0, 4, (images, sentences)).astype(np.float32))
    t2i = torch.from_numpy(generator.integers(0, 4, (images, sentences)).astype(np.float32))
    count = draw(st.integers(1, images * sentences))
    cells = generator.choice(images * sentences, size=count)  # with repetition
    pairs = np.stack([cells // sentences, cells % sentences], axis=1)
    scores = Scores(i2t, t2i) if draw(st.booleans()) else Scores.shared(i2t)
    return scores, pairs, draw(st.integers(1, 200))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_ranks_equal_a_slow_loop(problem: tuple[Scores, NDArray[np.int64], int]) -> None:
    scores, pairs, block_bytes = problem
    found = ranks(scores, pairs, block_bytes=block_bytes)
    assert found.i2t.tolist() == slow_ranks(scores.i2t.numpy(), pairs)
    assert found.t2i.tolist() == slow_ranks(scores.t2i.numpy().T, pairs[:, ::-1])


def test_rank_of_an_image_is_that_of_its_best_sentence() -> None:
    scores = Scores.shared(torch.tensor([[0.1, 0.7, 0.9, 0.8]]))
    found = ranks(scores, np.array([[0, 0], [0, 1]]))
    assert found.i2t.tolist() == [2]  # 0.9 and 0.8 stand above 0.7
    assert found.t2i.tolist() == [0, 0, NO_POSITIVE, NO_POSITIVE]


def test_equal_scores_count_against_the_query() -> None:
    found = ranks(Scores.shared(torch.zeros(10, 50)), FIVE_EACH)
    assert (found.i2t == 45).all()
    assert (found.t2i == 9).all()


def distinct(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(500, generator=generator).reshape(10, 50).float()


def assert_same(one: Ranks, other: Ranks) -> None:
    assert one.i2t.tolist() == other.i2t.tolist()
    assert one.t2i.tolist() == other.t2i.tolist()


def test_reordering_images_and_sentences_reorders_ranks() -> None:
    scores = distinct()
    whole = ranks(Scores.shared(scores), FIVE_EACH)
    rows, columns = (
        np.random.default_rng(1).permutation(10),
        np.random.default_rng(2).permutation(50),
    )
    moved = np.stack([np.argsort(rows)[FIVE_EACH[:, 0]], np.argsort(columns)[FIVE_EACH[:, 1]]], 1)
    found = ranks(Scores.shared(scores[rows][:, columns]), moved)
    assert_same(found, Ranks(whole.i2t[rows], whole.t2i[columns]))


@pytest.mark.parametrize("change", [torch.exp, lambda s: s + 1000, lambda s: 3 * s - 7])
def test_rising_functions_of_scores_change_no_rank(change: object) -> None:
    scores = (distinct() % 60).double()  # with ties, and within reach of exp
    assert callable(change)
    changed = ranks(Scores.shared(change(scores)), FIVE_EACH)
    assert_same(changed, ranks(Scores.shared(scores), FIVE_EACH))


def test_a_pair_given_twice_counts_once() -> None:
    scores = Scores.shared(distinct())
    assert_same(ranks(scores, np.concatenate([FIVE_EACH, FIVE_EACH])), ranks(scores, FIVE_EACH))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (9, 49), (3, 0)])
def test_scores_that_are_no_number_are_refused(bad: float, place: tuple[int, int]) -> None:
    scores = distinct()
    scores[place] = bad
    for matrices in (Scores.shared(scores), Scores(distinct(), scores), Scores(scores, distinct())):
        with pytest.raises(DataError, match="NaN or infinity"):
            ranks(matrices, FIVE_EACH, block_bytes=400)


def test_matrices_of_unlike_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        ranks(Scores(torch.zeros(2, 3), torch.zeros(3, 2)), np.array([[0, 0]]))


def test_an_empty_matrix_is_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        ranks(Scores.shared(torch.zeros(0, 3)), np.array([[0, 0]]))


def test_integers_are_refused() -> None:
    with pytest.raises(DataError, match="floating"):
        ranks(Scores.shared(torch.zeros(2, 3, dtype=torch.int64)), np.array([[0, 0]]))


@pytest.mark.parametrize("pair", [[2, 0], [0, 3], [-1, 0]])
def test_ground_truth_outside_of_the_matrix_is_refused(pair: list[int]) -> None:
    with pytest.raises(DataError, match="ground truth names"):
        ranks(Scores.shared(torch.zeros(2, 3)), np.array([pair]))


def test_no_ground_truth_is_refused() -> None:
    with pytest.raises(DataError, match="without a single pair"):
        ranks(Scores.shared(torch.zeros(2, 3)), np.zeros((0, 2), dtype=np.int64))


def test_half_precision_scores_are_ranked() -> None:
    scores = distinct() / 4  # exact in half precision, up to 125
    assert_same(
        ranks(Scores.shared(scores.half()), FIVE_EACH), ranks(Scores.shared(scores), FIVE_EACH)
    )


@pytest.mark.parametrize("block_bytes", [1, 450, 10**6])
def test_top_one_equals_argmax(block_bytes: int) -> None:
    scores = distinct() % 100  # with ties: the first one wins
    found = top_one(Scores(scores, -scores), block_bytes=block_bytes)
    assert found.i2t.tolist() == scores.numpy().argmax(axis=1).tolist()
    assert found.t2i.tolist() == (-scores.numpy()).argmax(axis=0).tolist()
