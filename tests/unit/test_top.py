"""Running lists of the best: those of a whole sorted matrix, ties by number, in any order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.scoring import top as top_module
from visavis.scoring.top import RunningTop


def shown(
    scores: Tensor, k: int, sizes: tuple[int, int], order: list[int] | None = None
) -> RunningTop:
    """Lists of the rows of a matrix, shown in tiles."""
    found = RunningTop(len(scores), k)
    columns = torch.tensor(order if order is not None else range(scores.shape[1]))
    for ids in columns.split(sizes[1]):
        for queries in torch.arange(len(scores)).split(sizes[0]):
            found.see(queries, scores[queries][:, ids], ids)
    return found


def sorted_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = scores.sort(dim=1, descending=True, stable=True)
    ids = best.indices.masked_fill(best.values == -torch.inf, -1).int()
    width = max(0, k - scores.shape[1])
    ids = torch.nn.functional.pad(ids[:, :k], (0, width), value=-1)
    return torch.nn.functional.pad(best.values[:, :k], (0, width), value=-torch.inf), ids


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6),
    st.tuples(st.integers(1, 7), st.integers(1, 40)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 6),
    st.integers(0, 10**6),
)
def test_lists_are_those_of_the_sorted_rows_whatever_comes_first(
    k: int, shape: tuple[int, int], sizes: tuple[int, int], levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # A few levels: most scores have equals, and some stand for none.
    scores = torch.randint(0, levels + 1, shape, generator=generator).float()
    scores = scores.masked_fill(scores == 0, -torch.inf)
    order = torch.randperm(shape[1], generator=generator).tolist()
    expected = sorted_rows(scores, k)
    for given_order in (None, order):
        found = shown(scores, k, sizes, given_order)
        assert torch.equal(found.scores, expected[0])
        assert torch.equal(found.ids, expected[1])


@pytest.mark.parametrize("cells", [1, 50, 10**6])
def test_how_much_is_merged_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(top_module, "CELLS", cells)
    scores = torch.randn(20, 90, generator=torch.Generator().manual_seed(3))
    found = shown(scores, 5, (20, 30))
    assert torch.equal(found.ids, sorted_rows(scores, 5)[1])


def test_each_query_may_have_items_of_its_own() -> None:
    found = RunningTop(2, 2)
    queries = torch.arange(2)
    found.see(queries, torch.tensor([[0.1, 0.9], [0.5, 0.2]]), torch.tensor([[7, 3], [4, 4000]]))
    found.see(queries, torch.tensor([[0.3], [-torch.inf]]), torch.tensor([[1], [2]]))
    assert found.ids.tolist() == [[3, 1], [4, 4000]]
