"""How hard negatives of random batches and mined ones are."""

from __future__ import annotations

import numpy as np
import pytest

from visavis.data.negatives import NONE
from visavis.errors import DataError
from visavis.explain.hardness import Ranked, hardness, random_batches, rank_answers


def ranked(images: int = 40, each: int = 5, size: int = 32, draws: int = 200) -> Ranked:
    """Image anchors of a corpus with random scores, and the ten best wrong answers as mined."""
    generator = np.random.default_rng(0)
    count = images * each
    scores = generator.normal(size=(images, count)).astype(np.float32)
    own = [np.arange(each * image, each * image + each) for image in range(images)]
    ranks = rank_answers(scores, own)
    others = random_batches(np.arange(images) * each, count, size, draws, seed=0)
    mined = np.argsort(np.where(ranks > 0, ranks, count), axis=1)[:, :10].astype(np.int32)
    return Ranked(scores, ranks, others, mined)  # sentence n belongs to pair n


def test_ranks_count_the_wrong_answers_above() -> None:
    scores = np.array([[0.3, 0.9, 0.3, 0.1, 0.5]], np.float32)
    assert rank_answers(scores, [np.array([1, 4])]).tolist() == [[1, 0, 1, 3, 0]]
    with pytest.raises(DataError, match="not finite"):
        rank_answers(np.array([[np.nan]], np.float32), [np.array([], np.int64)])


def test_a_batch_has_other_pairs_once_each() -> None:
    found = random_batches(np.array([0, 7, 19]), 20, 20, 3, seed=1)
    for row, anchor in enumerate((0, 7, 19)):
        for batch in found[row]:
            assert sorted(batch) == [pair for pair in range(20) if pair != anchor]
    again = random_batches(np.array([0, 7, 19]), 20, 20, 3, seed=1)
    assert np.array_equal(found, again)
    with pytest.raises(DataError, match="do not fill a batch of 21"):
        random_batches(np.array([0]), 20, 21, 1, seed=0)


def test_the_hardest_of_a_batch_equals_a_loop() -> None:
    found = ranked(draws=3)
    for size in (2, 5, 32):
        hardest = found.online(size)
        for anchor in range(len(found.ranks)):
            for draw in range(3):
                batch = found.batches[anchor, draw, : size - 1]
                wrong = [(found.ranks[anchor, j], j) for j in batch if found.ranks[anchor, j]]
                assert hardest[anchor, draw] == (min(wrong)[1] if wrong else -1)


def test_online_ranks_are_as_the_paper_says_and_mined_ones_lower() -> None:
    found = hardness(ranked(), (8, 32), np.arange(40), seed=0)
    assert found.wrong == 195
    for size, level in found.online.items():
        assert level.expected == pytest.approx(196 / size)
        # Own sentences in the batch make it a little smaller: at most four of 199.
        assert level.rank.mean == pytest.approx(196 / size, rel=0.08)
        assert level.rank.low < level.rank.mean < level.rank.high
    assert found.mined.rank.mean == pytest.approx(5.5)  # the mean of 1 to 10
    assert (found.mined.first, found.listed) == (1.0, 10)


def test_the_end_of_a_short_list_does_not_count() -> None:
    whole = ranked(draws=2)
    mined = whole.mined.copy()
    mined[:, 4:] = NONE
    cut = Ranked(whole.scores, whole.ranks, whole.batches, mined)
    assert hardness(cut, (8,), np.arange(40), seed=0).mined.rank.mean == pytest.approx(2.5)
