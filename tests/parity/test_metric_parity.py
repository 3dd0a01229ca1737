"""Ranks and recalls against what the published evaluation code gives on the same scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from visavis.metrics.ranks import Ranks, ranks, top_one
from visavis.metrics.recall import CUTOFFS, mean_metrics, recall_metrics
from visavis.types import Scores

pytestmark = pytest.mark.parity
DATA = Path(__file__).parent / "data"
DIRECTION = ("r1", "r5", "r10", "medr", "meanr")


def five_each(images: int) -> NDArray[np.int64]:
    return np.array([[j // 5, j] for j in range(5 * images)])


def published_columns(metrics: dict[str, float]) -> list[float]:
    """Five numbers per direction, the mean recall of each, the sum of recalls."""
    columns = [metrics[f"{way}_{what}"] for way in ("i2t", "t2i") for what in DIRECTION]
    means = [np.mean([metrics[f"{way}_r{k}"] for k in CUTOFFS]) for way in ("i2t", "t2i")]
    return [*columns, *(float(mean) for mean in means), metrics["rsum"]]


def assert_published(scores: Tensor, case: dict[str, Tensor], prefix: str) -> None:
    found = ranks(Scores.shared(scores), five_each(len(scores)))
    first = top_one(Scores.shared(scores))
    assert found.i2t.tolist() == case[f"{prefix}i2t_ranks"].tolist()
    assert found.t2i.tolist() == case[f"{prefix}t2i_ranks"].tolist()
    assert first.i2t.tolist() == case[f"{prefix}i2t_top1"].tolist()
    assert first.t2i.tolist() == case[f"{prefix}t2i_top1"].tolist()
    expected = torch.cat([case[f"{prefix}{key}"] for key in ("i2t", "t2i", "ar_ari_rsum")])
    assert published_columns(recall_metrics(found)) == pytest.approx(expected.tolist(), rel=1e-6)


def test_one_set_of_scores() -> None:
    case = load_file(DATA / "metrics_50x250.safetensors")
    assert_published(case["input.scores"], case, "output.")


def test_the_whole_matrix_beside_the_folds() -> None:
    case = load_file(DATA / "metrics_5fold.safetensors")
    assert_published(case["input.scores"], case, "output.full_")


def test_five_folds_by_column() -> None:
    case = load_file(DATA / "metrics_5fold.safetensors")
    size = 10
    folds = []
    for number in range(5):
        rows = slice(number * size, (number + 1) * size)
        columns = slice(5 * number * size, 5 * (number + 1) * size)
        scores = Scores.shared(case["input.scores"][rows, columns])
        folds.append(recall_metrics(ranks(scores, five_each(size))))
    for found, expected in zip(folds, case["output.per_fold"].tolist(), strict=True):
        assert published_columns(found) == pytest.approx(expected, rel=1e-6)
    mean = published_columns(mean_metrics(folds))
    assert mean == pytest.approx(case["output.mean"].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("inputs", "prefix"), [("a", "output.a_"), ("b", "output.b_"), ("ab", "output.")]
)
def test_two_runs_and_their_mean(inputs: str, prefix: str) -> None:
    case = load_file(DATA / "metrics_ensemble.safetensors")
    scores = torch.stack([case[f"input.scores_{name}"] for name in inputs]).mean(dim=0)
    assert_published(scores, case, prefix)


@pytest.mark.parametrize(("suffixes", "prefix"), [([""], "single"), (["", "2"], "ensemble")])
def test_inner_products_of_embeddings(suffixes: list[str], prefix: str) -> None:
    case = load_file(DATA / "metrics_embeddings.safetensors")
    products = [
        case[f"input.images{s}"][::5].double() @ case[f"input.captions{s}"].double().T
        for s in suffixes  # images are repeated, once for each of their sentences
    ]
    found = ranks(Scores.shared(torch.stack(products).mean(dim=0)), five_each(20))
    expected = Ranks(
        case[f"output.{prefix}_i2t_ranks"].numpy(), case[f"output.{prefix}_t2i_ranks"].numpy()
    )
    assert found.i2t.tolist() == expected.i2t.tolist()
    assert found.t2i.tolist() == expected.t2i.tolist()
    metrics = recall_metrics(found)
    for way in ("i2t", "t2i"):
        numbers = [metrics[f"{way}_{what}"] for what in DIRECTION]
        assert numbers == pytest.approx(case[f"output.{prefix}_{way}"].tolist(), rel=1e-6)
    assert metrics["rsum"] == pytest.approx(case[f"output.{prefix}_rsum"].item(), rel=1e-6)
