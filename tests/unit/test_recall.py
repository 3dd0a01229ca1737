"""Recall and chance: by hand, by counting every order, and against an independent package."""

from __future__ import annotations

import itertools
from collections import Counter

import ir_measures
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks, ranks
from visavis.metrics.recall import (
    METRICS,
    RECALLS,
    chance_metrics,
    mean_metrics,
    recall_metrics,
)
from visavis.types import Scores


def test_metrics_by_hand() -> None:
    found = recall_metrics(Ranks(np.array([0, 3, 4, 12]), np.array([0, 0, 5, 9, 10])))
    assert found == {
        "i2t_r1": 25.0,
        "i2t_r5": 75.0,
        "i2t_r10": 75.0,
        "i2t_medr": 4.0,  # floor(3.5) + 1
        "i2t_meanr": 5.75,
        "t2i_r1": 40.0,
        "t2i_r5": 40.0,
        "t2i_r10": 80.0,
        "t2i_medr": 6.0,
        "t2i_meanr": 5.8,
        "rsum": 335.0,
        "mr": pytest.approx(335 / 6),
    }
    assert tuple(found) == METRICS


def test_queries_without_a_right_answer_are_left_out() -> None:
    some = recall_metrics(Ranks(np.array([0, NO_POSITIVE]), np.array([7, NO_POSITIVE, 0])))
    assert some == recall_metrics(Ranks(np.array([0]), np.array([7, 0])))


def test_a_direction_without_right_answers_is_refused() -> None:
    with pytest.raises(DataError, match="i2t: no query"):
        recall_metrics(Ranks(np.array([NO_POSITIVE]), np.array([0])))


def test_equal_scores_find_nothing() -> None:
    pairs = np.array([[j // 5, j] for j in range(60)])
    found = recall_metrics(ranks(Scores.shared(torch.ones(12, 60)), pairs))
    assert [found[key] for key in RECALLS] == [0.0] * 6


def outside_success(matrix: NDArray[np.float64], pairs: NDArray[np.int64], cutoff: int) -> float:
    """The share of rows with a right column among the first K, as ir-measures counts it."""
    qrels = [ir_measures.Qrel(f"q{i}", f"d{j}", 1) for i, j in pairs]
    run = [
        ir_measures.ScoredDoc(f"q{i}", f"d{j}", float(matrix[i, j]))
        for i in range(matrix.shape[0])
        for j in range(matrix.shape[1])
    ]
    measure = ir_measures.Success @ cutoff
    return float(ir_measures.calc_aggregate([measure], qrels, run)[measure])


def test_recall_agrees_with_ir_measures() -> None:
    generator = np.random.default_rng(5)
    matrix = generator.normal(size=(20, 70))
    owners = np.sort(np.append(np.arange(20), generator.integers(0, 20, 50)))  # one to many each
    pairs = np.stack([owners, np.arange(70)], axis=1)
    matrix[pairs[:, 0], pairs[:, 1]] += 1.5
    found = recall_metrics(ranks(Scores.shared(torch.from_numpy(matrix)), pairs))
    for cutoff in (1, 5, 10):
        outside = 100 * outside_success(matrix, pairs, cutoff)
        assert found[f"i2t_r{cutoff}"] == pytest.approx(outside)
        outside = 100 * outside_success(matrix.T, pairs[:, ::-1], cutoff)
        assert found[f"t2i_r{cutoff}"] == pytest.approx(outside)


def test_chance_equals_counting_every_order() -> None:
    orders = list(itertools.permutations(range(6)))
    best = [min(order.index(0), order.index(1)) for order in orders]  # items 0 and 1 are right
    counted = Counter(best)
    found = chance_metrics((1, 6), np.array([[0, 0], [0, 1]]))
    assert found["i2t_r1"] == pytest.approx(100 * counted[0] / len(orders))
    assert found["i2t_r5"] == 100.0  # one right item is always among five of six
    assert found["i2t_meanr"] == pytest.approx(1 + np.mean(best))


def test_chance_is_hypergeometric_for_any_number_of_sentences() -> None:
    counts = [1, 3, 8]
    owners = np.repeat(np.arange(3), counts)
    pairs = np.stack([owners, np.arange(12)], axis=1)
    found = chance_metrics((3, 40), pairs)  # 28 sentences belong to no image
    for cutoff in (1, 5, 10):
        expected = np.mean([stats.hypergeom.sf(0, 40, right, cutoff) for right in counts])
        assert found[f"i2t_r{cutoff}"] == pytest.approx(100 * expected)
    assert found["t2i_r1"] == pytest.approx(100 / 3)
    assert found["t2i_r5"] == 100.0


def test_chance_is_what_random_scores_give() -> None:
    pairs = np.array([[j // 5, j] for j in range(1500)])
    generator = torch.Generator().manual_seed(0)
    drawn = [
        recall_metrics(ranks(Scores.shared(torch.rand(300, 1500, generator=generator)), pairs))
        for _ in range(10)
    ]
    # Ten runs of 300 images: the standard error of the sum is about 0.6.
    assert np.mean([run["rsum"] for run in drawn]) == pytest.approx(
        chance_metrics((300, 1500), pairs)["rsum"], abs=2.0
    )


def test_folds_are_averaged_by_column() -> None:
    folds = [{"i2t_r1": 10.0, "rsum": 300.0}, {"i2t_r1": 20.0, "rsum": 330.0}]
    assert mean_metrics(folds) == {"i2t_r1": 15.0, "rsum": 315.0}
