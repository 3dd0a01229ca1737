"""Intervals and the paired test: by hand, against formulas, and on runs that are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks
from visavis.metrics.recall import RECALLS
from visavis.metrics.significance import (
    COLUMNS,
    Resampling,
    Units,
    intervals,
    paired_test,
    units_of,
)

QUICK = Resampling(resamples=500, permutations=499)


def five_each(images: int) -> NDArray[np.int64]:
    return np.array([[j // 5, j] for j in range(5 * images)])


def random_units(images: int, found: float, seed: int) -> Units:
    """Queries that are found at rank 0 with some probability, else at rank 99, independently."""
    generator = np.random.default_rng(seed)
    i2t = np.where(generator.random(images) < found, 0, 99)
    t2i = np.where(generator.random(5 * images) < found, 0, 99)
    return units_of(Ranks(i2t, t2i), five_each(images))


def test_units_by_hand() -> None:
    ranks = Ranks(np.array([0, 7]), np.array([4, 20, 0]))
    units = units_of(ranks, np.array([[0, 0], [0, 1], [1, 2]]))
    assert units.queries.tolist() == [[1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 1]]
    assert units.hits.tolist() == [[1, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 1]]


def test_images_that_share_a_sentence_make_one_unit() -> None:
    ranks = Ranks(np.array([0, 0, 0]), np.array([0, 0]))
    units = units_of(ranks, np.array([[0, 0], [1, 0], [2, 1]]))
    assert units.queries[:, 0].tolist() == [2, 1]


def test_items_that_belong_to_nothing_make_no_unit() -> None:
    ranks = Ranks(np.array([NO_POSITIVE, 3]), np.array([NO_POSITIVE, 0]))
    units = units_of(ranks, np.array([[1, 1]]))
    assert units.queries.tolist() == [[1] * 6]
    assert units.hits.tolist() == [[0, 1, 1, 1, 1, 1]]


def test_interval_of_a_recall_is_that_of_a_proportion() -> None:
    units = random_units(1000, 0.3, seed=0)
    found = intervals([units], Resampling(resamples=2000))["i2t_r1"]
    share = units.hits[:, 0].mean()
    half = 1.96 * 100 * np.sqrt(share * (1 - share) / 1000)
    assert found.low == pytest.approx(100 * share - half, abs=0.3)
    assert found.high == pytest.approx(100 * share + half, abs=0.3)


def test_sentences_that_stand_or_fall_together_do_not_narrow_the_interval() -> None:
    i2t = np.where(np.random.default_rng(1).random(400) < 0.4, 0, 99)
    units = units_of(Ranks(i2t, np.repeat(i2t, 5)), five_each(400))
    found = intervals([units], QUICK)
    assert found["t2i_r1"] == found["i2t_r1"]  # 2,000 sentences tell no more than 400 images


def test_interval_of_the_sum_holds_the_sum() -> None:
    units = random_units(300, 0.5, seed=2)
    found = intervals([units], QUICK)
    rsum = 100 * (units.hits.sum(axis=0) / units.queries.sum(axis=0)).sum()
    assert found["rsum"].low < rsum < found["rsum"].high
    assert tuple(found) == COLUMNS


def test_intervals_repeat_with_their_seed() -> None:
    units = random_units(100, 0.5, seed=3)
    assert intervals([units], QUICK) == intervals([units], QUICK)
    assert intervals([units], QUICK) != intervals([units], Resampling(resamples=500, seed=1))


def test_folds_are_averaged_not_pooled() -> None:
    one, other = random_units(50, 0.0, seed=0), random_units(200, 1.0, seed=0)
    found = intervals([one, other], QUICK)
    assert (found["i2t_r1"].low, found["i2t_r1"].high) == (50.0, 50.0)


def test_a_perfect_run_has_an_interval_of_no_width() -> None:
    found = intervals([random_units(20, 1.0, seed=0)], QUICK)
    assert (found["rsum"].low, found["rsum"].high) == (600.0, 600.0)


def test_one_image_has_no_interval() -> None:
    assert intervals([random_units(1, 1.0, seed=0)], QUICK) == {}


def test_p_value_of_few_images_by_counting_every_swap() -> None:
    best = units_of(
        Ranks(np.zeros(4, dtype=np.int64), np.full(4, 99)), np.array([[i, i] for i in range(4)])
    )
    worst = Units(np.zeros((4, 6)), best.queries)
    found = paired_test([best], [worst], QUICK)
    assert found["i2t_r1"].value == 100.0
    assert found["i2t_r1"].p_value == pytest.approx(2 / 16)  # all or none swapped, of 2 ** 4
    assert found["t2i_r1"].p_value == 1.0
    assert found["rsum"].value == 300.0


def test_a_run_does_not_differ_from_itself() -> None:
    units = random_units(60, 0.5, seed=0)
    for difference in paired_test([units], [units], QUICK).values():
        assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
        assert difference.p_value == 1.0


def test_a_clear_difference_is_found() -> None:
    found = paired_test([random_units(300, 0.6, 0)], [random_units(300, 0.4, 1)], QUICK)
    assert found["rsum"].p_value == pytest.approx(2 / 500)  # the least that 499 swaps can show
    assert 0 < found["rsum"].low < found["rsum"].value < found["rsum"].high


def test_swapping_the_runs_turns_the_sign() -> None:
    one, other = random_units(80, 0.5, 0), random_units(80, 0.45, 1)
    forth, back = paired_test([one], [other], QUICK), paired_test([other], [one], QUICK)
    for key in RECALLS:
        assert forth[key].value == pytest.approx(-back[key].value)
        assert forth[key].low == pytest.approx(-back[key].high)
        assert forth[key].p_value == pytest.approx(back[key].p_value, abs=0.1)


def test_equally_good_runs_are_told_apart_about_as_often_as_the_level_says() -> None:
    settings = Resampling(resamples=10, permutations=199)
    p_values = [
        paired_test([random_units(60, 0.5, seed)], [random_units(60, 0.5, 999 + seed)], settings)
        for seed in range(100)
    ]
    rejected = sum(found["rsum"].p_value <= 0.1 for found in p_values)
    assert 3 <= rejected <= 19  # binomial(100, 0.1) leaves this range once in 300


def test_a_difference_over_folds_is_the_mean_of_theirs() -> None:
    ones = [random_units(30, 0.7, 0), random_units(90, 0.6, 1)]
    others = [random_units(30, 0.5, 2), random_units(90, 0.5, 3)]
    both = paired_test(ones, others, QUICK)
    single = [paired_test([a], [b], QUICK) for a, b in zip(ones, others, strict=True)]
    for key in COLUMNS:
        mean = (single[0][key].value + single[1][key].value) / 2
        assert both[key].value == pytest.approx(mean)


def test_other_queries_are_refused() -> None:
    with pytest.raises(DataError, match="did not ask the same queries"):
        paired_test([random_units(10, 0.5, 0)], [random_units(11, 0.5, 0)], QUICK)


def test_a_difference_on_one_image_is_refused() -> None:
    one = random_units(1, 0.5, 0)
    with pytest.raises(DataError, match="fewer than two images"):
        paired_test([one], [one], QUICK)


def test_settings_without_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="positive counts"):
        Resampling(resamples=0)
