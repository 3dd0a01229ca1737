"""Means of score matrices against the same in double precision, and what cannot be averaged."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.errors import DataError
from visavis.rerank import matrices
from visavis.rerank.ensemble import NORMALISATIONS, Normalisation, mean_scores
from visavis.types import Scores

few = settings(max_examples=25, deadline=None)


def drawn(count: int, shape: tuple[int, int] = (5, 8)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return list(torch.randn(count, *shape, generator=generator))


def shared(parts: list[Tensor]) -> list[Scores]:
    return [Scores.shared(part) for part in parts]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_plain_mean(count: int) -> None:
    parts = drawn(count)
    found = mean_scores(shared(parts))
    torch.testing.assert_close(found.i2t, torch.stack(parts).double().mean(dim=0).float())
    assert found.i2t.dtype == torch.float32
    assert not found.decoupled


@given(weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
@few
def test_weights_are_brought_to_sum_one(weights: list[float]) -> None:
    parts = drawn(3)
    expected = np.average([part.numpy() for part in parts], axis=0, weights=weights)
    found = mean_scores(shared(parts), weights=weights)
    np.testing.assert_allclose(found.i2t.numpy(), expected, atol=1e-6)


def test_a_weight_of_zero_leaves_a_model_out() -> None:
    one, two = drawn(2)
    assert torch.equal(mean_scores(shared([one, two]), weights=[2, 0]).i2t, one)


def by_numpy(matrix: np.ndarray, normalise: str) -> np.ndarray:
    if normalise == "z":
        return np.asarray((matrix - matrix.mean()) / matrix.std())
    if normalise == "min_max":
        return np.asarray((matrix - matrix.min()) / (matrix.max() - matrix.min()))
    return matrix


@pytest.mark.parametrize("normalise", ["none", "min_max", "z"])
def test_each_matrix_is_brought_to_scale_by_itself(normalise: Normalisation) -> None:
    parts = drawn(2)
    parts[1] = 100 * parts[1] + 7
    expected = sum(by_numpy(part.double().numpy(), normalise) for part in parts) / 2
    found = mean_scores(shared(parts), normalise=normalise)
    np.testing.assert_allclose(found.i2t.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_ranks_are_places_in_the_list_of_the_query() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0], [4.0, 9.0, 9.0]])
    found = mean_scores([Scores.shared(scores)], normalise="rank")
    i2t = torch.tensor([[1.0, 0.0, 0.5], [0.75, 0.75, 0.0], [0.0, 0.75, 0.75]])
    t2i = torch.tensor([[0.0, 0.0, 0.5], [1.0, 0.5, 0.0], [0.5, 1.0, 1.0]])
    assert torch.equal(found.i2t, i2t)
    assert torch.equal(found.t2i, t2i)


@given(seed=st.integers(0, 1000), normalise=st.sampled_from(["min_max", "z", "rank"]))
@few
def test_a_normalised_mean_does_not_depend_on_scale_or_centre(
    seed: int, normalise: Normalisation
) -> None:
    parts = drawn(seed % 3 + 2)
    moved = [(number + 0.5) * part - 3 * number for number, part in enumerate(parts)]
    here, there = (mean_scores(shared(p), normalise=normalise) for p in (parts, moved))
    torch.testing.assert_close(there.i2t, here.i2t, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(there.t2i, here.t2i, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 1000))
@few
def test_ranks_do_not_depend_on_a_rising_function(seed: int) -> None:
    parts = drawn(seed % 3 + 2)
    bent = [torch.exp(part.double()).float() for part in parts]
    here, there = (mean_scores(shared(p), normalise="rank") for p in (parts, bent))
    assert torch.equal(here.i2t, there.i2t)
    assert torch.equal(here.t2i, there.t2i)


@pytest.mark.parametrize("first", [0, 1])
def test_directions_are_averaged_apart_where_one_model_has_two(first: int) -> None:
    a, b, c = drawn(3)
    parts = [Scores.shared(a), Scores(b, c)]
    found = mean_scores([parts[first], parts[1 - first]])
    assert found.decoupled
    torch.testing.assert_close(found.i2t, (a + b) / 2)
    torch.testing.assert_close(found.t2i, (a + c) / 2)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_blocks_and_files_change_nothing(
    normalise: Normalisation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b, c = drawn(3)
    parts = [Scores.shared(a), Scores(b, c)]
    whole = mean_scores(parts, normalise=normalise)
    monkeypatch.setattr(matrices.stripes, "__kwdefaults__", {"block_bytes": 70})
    monkeypatch.setattr(matrices, "RAM_BYTES", 0)
    kept = mean_scores(parts, normalise=normalise, folder=tmp_path)
    torch.testing.assert_close(kept.i2t, whole.i2t)
    torch.testing.assert_close(kept.t2i, whole.t2i)
    assert {path.name for path in tmp_path.iterdir()} == {"mean_i2t.npy", "mean_t2i.npy"}


def test_one_model_is_alive_at_a_time() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def scored() -> Iterator[Scores]:
        for matrix in range(3):
            gc.collect()
            assert not [ref for ref in alive if ref() is not None]
            made = torch.full((4, 6), float(matrix))
            alive.append(weakref.ref(made))
            scores = Scores.shared(made)
            del made
            yield scores
            del scores

    assert torch.equal(mean_scores(scored()).i2t, torch.ones(4, 6))
    assert len(alive) == 3


@pytest.mark.parametrize(
    ("parts", "weights", "normalise", "said"),
    [
        ([], None, "none", "no scores to average"),
        ([torch.ones(2, 3), torch.ones(3, 2)], None, "none", "same images and sentences"),
        ([torch.ones(2, 3), torch.full((2, 3), torch.nan)], None, "none", "NaN or infinity"),
        ([torch.full((2, 3), torch.nan)], None, "rank", "NaN or infinity"),
        ([torch.ones(2)], None, "none", r"one shape \(N, M\)"),
        ([torch.ones(2, 3)], None, "z", "all equal"),
        ([torch.ones(2, 3)], None, "min_max", "all equal"),
        ([torch.ones(2, 3)], None, "l2", "known: none, min_max, z, rank"),
        ([torch.ones(2, 3)] * 2, [1.0], "none", "1 weights for more score matrices"),
        ([torch.ones(2, 3)] * 2, [1.0] * 3, "none", "3 weights for 2 score matrices"),
        ([torch.ones(2, 3)] * 2, [1.0, -1.0], "none", "weights 1, -1; expected"),
        ([torch.ones(2, 3)] * 2, [0.0, 0.0], "none", "weights 0, 0; expected"),
        ([torch.ones(2, 3)] * 2, [1.0, float("nan")], "none", "weights 1, nan; expected"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    parts: list[Tensor], weights: list[float] | None, normalise: Normalisation, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        mean_scores(shared(parts), weights=weights, normalise=normalise)
