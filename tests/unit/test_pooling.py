"""Pooling with masks: padding never takes part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.layers.norm import l2norm
from visavis.layers.pooling import masked_max, masked_mean, pool


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_mean_and_max_equal_a_slow_loop(rows: list[list[bool]], seed: int) -> None:
    mask = torch.tensor(rows)
    tokens = torch.randn(len(rows), 4, 3, generator=torch.Generator().manual_seed(seed))
    for item in range(len(rows)):
        real = [tokens[item, place] for place in range(4) if rows[item][place]]
        mean = torch.stack(real).mean(dim=0)
        torch.testing.assert_close(masked_mean(tokens, mask)[item], mean)
        largest = torch.stack([max(column) for column in zip(*real, strict=True)])
        assert torch.equal(masked_max(tokens, mask)[item], largest)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_what_stands_in_padding_does_not_matter(how: str) -> None:
    tokens = -torch.rand(2, 3, 4) - 0.5
    mask = torch.tensor([[True, True, False], [True, False, False]])
    changed = tokens.masked_fill(~mask.unsqueeze(2), 99.0)
    assert torch.equal(pool(tokens, mask, how), pool(changed, mask, how))  # type: ignore[arg-type]


def test_the_max_of_negative_values_is_not_lifted_to_zero() -> None:
    tokens = torch.tensor([[[-2.0], [-1.0], [0.0]]])
    assert masked_max(tokens, torch.tensor([[True, True, False]])).item() == -1.0


def test_l2norm_has_unit_length_and_keeps_zeros() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    found = l2norm(vectors)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    found.sum().backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
