"""True pairs, as many false ones, and intervals of means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.errors import DataError
from visavis.explain.interval import mean_of
from visavis.explain.true_and_false import draw_pairs


def five_each(images: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    index = np.arange(5 * images)
    return np.stack([index // 5, index], axis=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(12, 40), st.integers(1, 3), st.integers(0, 1000))
def test_false_pairs_are_false_and_of_the_same_images_and_sentences(
    images: int, folds: int, seed: int
) -> None:
    truth = five_each(images)
    found = draw_pairs(truth, 4 * images, seed=seed, folds=folds)
    true, false = found.rows[found.true], found.rows[~found.true]
    assert len(true) == len(false) == 4 * images
    known = {tuple(pair) for pair in truth.tolist()}
    assert {tuple(pair) for pair in true.tolist()} <= known
    assert not {tuple(pair) for pair in false.tolist()} & known
    for side in (0, 1):
        assert sorted(true[:, side]) == sorted(false[:, side])


def test_nothing_is_shared_between_folds() -> None:
    found = draw_pairs(five_each(20), 100, seed=3, folds=4)
    assert set(found.folds.tolist()) == {0, 1, 2, 3}
    for side in (0, 1):
        owners: dict[int, set[int]] = {}
        for row, fold in zip(found.rows, found.folds, strict=True):
            owners.setdefault(int(row[side]), set()).add(int(fold))
        assert all(len(folds) == 1 for folds in owners.values())


def test_images_that_share_a_sentence_are_one_unit() -> None:
    truth = np.array([[0, 0], [1, 0], [1, 1], [2, 2], [3, 3]])
    found = draw_pairs(truth, 5, seed=0, folds=1)
    unit = {int(image): int(of) for (image, _), of in zip(found.rows, found.units, strict=True)}
    assert unit[0] == unit[1]
    assert len({unit[1], unit[2], unit[3]}) == 3


def test_the_seed_decides_everything() -> None:
    one, two, other = (draw_pairs(five_each(9), 20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.rows, two.rows)
    assert not np.array_equal(one.rows, other.rows)


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(DataError, match="4 at least are needed"):
        draw_pairs(five_each(3), 5, seed=0, folds=2)
    # Image 0 has all sentences but one.
    truth = np.array([[0, j] for j in range(9)] + [[1, 9]])
    with pytest.raises(DataError, match="take more"):
        draw_pairs(truth, 10, seed=0)


def test_an_interval_of_units_is_wider_than_one_of_their_values() -> None:
    generator = np.random.default_rng(0)
    units = np.repeat(np.arange(50), 20)
    values = np.repeat(generator.normal(size=50), 20)  # all values of a unit are the same
    by_unit = mean_of(values, units, seed=0)
    by_value = mean_of(values, np.arange(1000), seed=0)
    assert by_unit.mean == by_value.mean == pytest.approx(values.mean())
    assert by_unit.low < by_unit.mean < by_unit.high
    ratio = (by_unit.high - by_unit.low) / (by_value.high - by_value.low)
    assert ratio == pytest.approx(20**0.5, rel=0.15)


def test_an_interval_has_the_width_that_theory_says() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = mean_of(values, np.arange(400), seed=0)
    expected = 1.96 * values.std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)
