"""Re-ranking and means of scores against what the published code gave.

Theirs `K` is our `k`; the groups of their T→I re-ranking are our `oracle` groups. Their sort keys
tie: the stored order breaks ties by the first order, as the paper's ranking of P does here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.fixtures import case_names, load_case
from visavis.metrics.ranks import Ranks, ranks
from visavis.metrics.recall import recall_metrics
from visavis.rerank.ensemble import mean_scores
from visavis.rerank.groups import oracle
from visavis.rerank.reciprocal import ReciprocalConfig, i2t_candidates, rerank, t2i_candidates
from visavis.types import Scores

pytestmark = pytest.mark.parity
COLUMNS = ("r1", "r5", "r10", "medr", "meanr")


def five_each(sentences: int) -> NDArray[np.int64]:
    return np.array([[j // 5, j] for j in range(sentences)])


def published(found: NDArray[np.int64]) -> list[float]:
    """R@1, R@5, R@10, median and mean rank of one direction."""
    metrics = recall_metrics(Ranks(found, found))
    return [metrics[f"i2t_{what}"] for what in COLUMNS]


def assert_ranked(found: NDArray[np.int64], expected: Tensor, metrics: Tensor) -> None:
    assert found.tolist() == expected.long().tolist()
    assert published(found) == pytest.approx(metrics.tolist(), rel=1e-6)


@pytest.mark.parametrize("name", case_names("mtfn_rerank_i2t*"))
def test_i2t_reranking(name: str) -> None:
    case = load_case(name)
    scores, k = Scores.shared(case["input.scores"]), case.options["K"]
    pairs = five_each(scores.i2t.shape[1])
    assert i2t_candidates(scores, k).positions.tolist() == case["output.sort_key"].tolist()
    found = rerank(scores, config=ReciprocalConfig(k=k))
    order = found.i2t.argsort(dim=1, descending=True, stable=True)
    assert order.tolist() == case["output.order"].tolist()
    assert_ranked(ranks(found, pairs).i2t, case["output.ranks"], case["output.metrics"])
    before = published(ranks(scores, pairs).i2t)
    assert before == pytest.approx(case["output.metrics_before"].tolist(), rel=1e-6)


@pytest.mark.parametrize("name", case_names("mtfn_rerank_t2i*"))
def test_t2i_reranking_with_the_groups_of_the_published_code(name: str) -> None:
    case = load_case(name)
    scores, k = Scores.shared(case["input.scores"]), case.options["K"]
    pairs = five_each(scores.i2t.shape[1])
    groups = oracle(pairs, scores.i2t.shape[1])
    found = t2i_candidates(scores, k, groups)
    assert found.positions.tolist() == case["output.sort_key"].tolist()
    for reading in ("words", "equation"):  # ground truth is symmetric, so both are one
        config = ReciprocalConfig(k=k, reading=reading)
        reranked = rerank(scores, groups, config)
        order = reranked.t2i.argsort(dim=0, descending=True, stable=True)
        assert order.tolist() == case["output.order"].tolist()
        assert_ranked(ranks(reranked, pairs).t2i, case["output.ranks"], case["output.metrics"])


def test_the_mean_of_two_runs() -> None:
    case = load_case("metrics_ensemble")
    parts = [Scores.shared(case[f"input.scores_{name}"]) for name in "ab"]
    found = mean_scores(parts)
    torch.testing.assert_close(found.i2t, case["output.scores"], atol=1e-6, rtol=0)
    ranked = ranks(found, five_each(150))
    assert ranked.i2t.tolist() == case["output.i2t_ranks"].tolist()
    assert ranked.t2i.tolist() == case["output.t2i_ranks"].tolist()
    rsum = recall_metrics(ranked)["rsum"]
    assert rsum == pytest.approx(case["output.ar_ari_rsum"][2].item(), rel=1e-6)
