"""Averaged weights: by hand, and what they must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visavis.training.average import Average


class Small(nn.Module):
    """A weight, a buffer that is a float and one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.register_buffer("mean", torch.tensor([0.5]))
        self.register_buffer("seen", torch.tensor(0))

    def set(self, number: int) -> None:
        self.load_state_dict(
            {
                "weight": torch.tensor([1.0 + number, -2.0 * number]),
                "mean": torch.tensor([0.5 + number**2]),
                "seen": torch.tensor(number),
            }
        )


def by_hand(decay: float, steps: int) -> tuple[list[float], float]:
    weight, mean = [1.0, -2.0], 0.5
    for n in range(1, steps + 1):
        kept = min(decay, (1 + n) / (10 + n))
        now = [1.0 + n, -2.0 * n]
        weight = [kept * old + (1 - kept) * new for old, new in zip(weight, now, strict=True)]
        mean = kept * mean + (1 - kept) * (0.5 + n**2)
    return weight, mean


@pytest.mark.parametrize(("decay", "steps"), [(0.25, 1), (0.25, 9), (0.998, 30)])
def test_it_equals_a_slow_loop(decay: float, steps: int) -> None:
    model = Small()
    average = Average(model, decay)
    for step in range(1, steps + 1):
        model.set(step)
        average.update(model, step)
    weight, mean = by_hand(decay, steps)
    assert average.values["weight"].tolist() == pytest.approx(weight, rel=1e-5)
    assert average.values["mean"].item() == pytest.approx(mean, rel=1e-5)
    assert average.values["seen"].item() == steps  # copied: it is not a float


def test_the_first_step_counts_most() -> None:
    # (1 + 1) / (10 + 1) of the untrained weights are kept, however near to 1 the decay is.
    model = Small()
    average = Average(model, 0.999)
    model.set(1)
    average.update(model, 1)
    assert average.values["weight"][0].item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)


def test_weights_that_stand_still_have_themselves_as_average() -> None:
    model = Small()
    average = Average(model, 0.9)
    for step in range(1, 6):
        average.update(model, step)
    assert torch.equal(average.values["weight"], model.weight)


def test_the_model_has_the_averages_while_they_are_applied_and_its_own_after() -> None:
    model = Small()
    average = Average(model, 0.9)
    model.set(4)
    with average.applied(model):
        assert model.weight.tolist() == [1.0, -2.0]
    assert model.weight.tolist() == [5.0, -8.0]
    with pytest.raises(RuntimeError, match="in between"), average.applied(model):
        raise RuntimeError("in between")
    assert model.weight.tolist() == [5.0, -8.0]


def test_a_kept_average_goes_on_where_it_was() -> None:
    model = Small()
    first, second = Average(model, 0.9), Average(model, 0.9)
    model.set(3)
    first.update(model, 1)
    second.load(first.values)
    model.set(5)
    for average in (first, second):
        average.update(model, 2)
    assert torch.equal(first.values["weight"], second.values["weight"])
    with pytest.raises(KeyError):
        second.load({})
