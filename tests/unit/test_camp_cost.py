"""CAMP: operations and memory of a pair are those that the model says."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tests.camp import (
    SETTINGS,
    every_setting,
    model_of,
)
from tests.tiny import encoded, images, sentences


@pytest.mark.parametrize(
    "values", [v for v in SETTINGS if v.get("fuse", True) or v.get("messages") != "mean"]
)
def test_operations_of_a_pair_are_those_that_must_be(values: dict[str, Any]) -> None:
    model = model_of(**{**values, "dim": 64, "padded_to": 0}).requires_grad_(requires_grad=False)
    left, right = encoded(model, images((20,) * 4), sentences((9,) * 4))
    with FlopCounterMode(display=False) as counter:
        model.score(left, right)
    ratio = counter.get_total_flops() / (16 * model.pair_flops(20, 9))
    # It counts no cosines, and no product that pools the residual; means are made per item.
    assert 0.98 < ratio < 1.13


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive, and their highest number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and _storage(leaf) not in {*given, *self.sizes}:
                storage = leaf.untyped_storage()
                self.sizes[_storage(leaf)] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, _storage(leaf))
        return found

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@every_setting
@pytest.mark.parametrize("plain", [False, True])
def test_memory_of_a_pair_is_no_more_than_it_says(values: dict[str, Any], *, plain: bool) -> None:
    model = model_of(**{**values, "dim": 48}, plain=plain).requires_grad_(requires_grad=False)
    for r, w in ((20, 9), (4, 15)):
        here = model.pair_bytes(r, w)
        assert here <= min(model.pair_bytes(r + 1, w), model.pair_bytes(r, w + 1))
        left, right = encoded(model, images((r,) * 5), sentences((w, w, 1, w, w)))
        with Live() as live:
            model.score(left, right)
        assert 0 < live.peak <= 25 * here * 1.01
