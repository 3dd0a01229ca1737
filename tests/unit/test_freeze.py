"""Which parameters of a model are trained."""

from __future__ import annotations

import pytest
from torch import nn

from visavis.errors import RecipeError
from visavis.training.freeze import freeze


def model() -> nn.Module:
    parts = {"intra": nn.Linear(2, 2), "intramural": nn.Linear(2, 2)}
    return nn.ModuleDict({**parts, "text": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})


def trained(made: nn.Module) -> set[str]:
    return {name for name, parameter in made.named_parameters() if parameter.requires_grad}


def test_whole_parts_of_names_are_meant() -> None:
    made = model()
    freeze(made, ["intra", "text.0"], "stages[0].freeze")
    assert trained(made) == {"intramural.weight", "intramural.bias", "text.1.weight", "text.1.bias"}


def test_a_single_parameter_can_be_named() -> None:
    made = model()
    freeze(made, ["text.1.bias"], "stages[0].freeze")
    assert "text.1.bias" not in trained(made)
    assert len(trained(made)) == 7


def test_others_are_frozen_instead() -> None:
    made = model()
    freeze(made, ["text.1", "intra.bias"], "stages[0].only", others=True)
    assert trained(made) == {"text.1.weight", "text.1.bias", "intra.bias"}


def test_nothing_named_freezes_nothing() -> None:
    made = model()
    freeze(made, [], "stages[0].freeze")
    assert len(trained(made)) == 8


@pytest.mark.parametrize("prefix", ["intr", "text.0.weigh", "text.2", ""])
def test_a_prefix_that_names_nothing_is_refused_with_the_nearest(prefix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        freeze(model(), [prefix], "stages[1].freeze")
    assert f"stages[1].freeze: no parameters begin with {prefix!r}; " in str(caught.value)
    near = {"intr": "intra", "text.0.weigh": "text.0.weight", "text.2": "text"}
    if prefix in near:
        assert f"did you mean '{near[prefix]}" in str(caught.value)


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"stages\[0\]\.freeze: nothing is left to train"):
        freeze(model(), ["intra", "intramural", "text"], "stages[0].freeze")
