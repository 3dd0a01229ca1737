"""Cross-retrieval ranks: max(5 r_i - 4, r_t) of AOQ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.errors import DataError
from visavis.explain.cross_rank import INTERVALS, CrossRanks, cross_ranks
from visavis.types import Scores


def test_the_rank_by_hand() -> None:
    """Two images of five sentences each; one pair is looked at."""
    scores = torch.zeros(2, 10)
    scores[0, :5], scores[1, 5:] = 1.0, 1.0
    scores[0, 2] = 0.5
    scores[1, 2] = 0.6  # a wrong image scores higher with sentence 2: r_i = 2
    scores[0, 6:9] = 0.7  # three wrong sentences score higher with image 0: r_t = 4
    pairs = np.stack([np.arange(10) // 5, np.arange(10)], axis=1)
    found = cross_ranks(Scores.shared(scores), pairs)
    assert (found.among_images[2], found.among_sentences[2]) == (2, 4)
    assert found.cross[2] == max(5 * 2 - 4, 4)
    assert found.cross[0] == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 4))
def test_ranks_equal_a_loop(seed: int, decoupled: bool, each: int) -> None:
    generator = np.random.default_rng(seed)
    images, sentences = 7, 7 * each

    def drawn() -> torch.Tensor:  # few values, so that there are ties
        return torch.from_numpy(generator.integers(0, 5, (images, sentences)).astype(np.float32))

    first = drawn()
    scores = Scores(first, drawn()) if decoupled else Scores.shared(first)
    truth = generator.random((images, sentences)) < 0.3
    truth[np.arange(sentences) % images, np.arange(sentences)] = True
    pairs = np.argwhere(truth)
    found = cross_ranks(scores, generator.permutation(pairs))
    for (i, j), r_i, r_t in zip(
        found.pairs, found.among_images, found.among_sentences, strict=True
    ):
        wrong_images = [k for k in range(images) if not truth[k, j]]
        wrong_sentences = [k for k in range(sentences) if not truth[i, k]]
        assert r_i == 1 + sum(bool(scores.t2i[k, j] >= scores.t2i[i, j]) for k in wrong_images)
        assert r_t == 1 + sum(bool(scores.i2t[i, k] >= scores.i2t[i, j]) for k in wrong_sentences)


def test_counts_are_those_of_the_intervals() -> None:
    among = np.array([1, 2, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 200, 201, 9999])
    pairs = np.stack([np.arange(15), np.arange(15)], axis=1)
    found = CrossRanks(pairs, np.ones(15, np.int64), among, 5.0)
    assert found.counts == (1, 2, 2, 2, 2, 2, 2, 2)
    assert len(found.counts) == len(INTERVALS)


def test_scores_that_are_no_numbers_are_refused() -> None:
    scores = Scores.shared(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
    with pytest.raises(DataError, match="not finite"):
        cross_ranks(scores, np.array([[0, 0], [1, 1]]))
    with pytest.raises(DataError, match="without a single pair"):
        cross_ranks(scores, np.zeros((0, 2), np.int64))
