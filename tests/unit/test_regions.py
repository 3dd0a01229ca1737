"""Region vectors into the joint space."""

from __future__ import annotations

import torch

from visavis.layers.regions import RegionProjection


def test_standardised_columns_have_mean_0_and_deviation_1() -> None:
    torch.manual_seed(0)
    regions = torch.randn(50, 6, 4) * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 7.0
    projection = RegionProjection(4, 4, standardised=True)
    flat = regions.reshape(-1, 4)
    projection.standardise(flat.mean(dim=0), flat.std(dim=0))
    projection.linear.weight.data = torch.eye(4)
    out = projection(regions).reshape(-1, 4)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(dim=0), torch.ones(4), atol=1e-4, rtol=0)


def test_a_constant_column_stays_finite() -> None:
    projection = RegionProjection(2, 3, standardised=True)
    projection.standardise(torch.tensor([5.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.isfinite(projection(torch.tensor([[[5.0, 1.0]]]))).all()


def test_centre_and_scale_are_stored_with_the_weights() -> None:
    projection = RegionProjection(2, 3, standardised=True)
    projection.standardise(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    loaded = RegionProjection(2, 3, standardised=True)
    loaded.load_state_dict(projection.state_dict(), strict=True)
    assert loaded.mean.tolist() == [1.0, 2.0]
    assert loaded.deviation.tolist() == [3.0, 4.0]
    assert "mean" not in RegionProjection(2, 3).state_dict()
