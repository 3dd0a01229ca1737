"""Operations and bytes of a computation, counted while it runs.

A matrix product counts two operations for each multiplication. Every operation of PyTorch that is
no view counts the bytes of what it reads and writes, wherever they lie: in memory or in a cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PICKING = ("index", "index_select", "gather", "embedding")  # read what they give, not all they see
FREE = ("empty", "new_empty", "empty_like", "empty_strided", "_local_scalar_dense")

_counting: list[Counted] = []


def told(operations: float, moved: float) -> None:
    """Count what PyTorch does not see: the work of other libraries."""
    for counted in _counting:
        counted.operations += operations
        counted.moved += moved


class Counted(TorchDispatchMode):
    """Counts what happens in its block."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0
        self.moved = 0.0  # bytes

    def __enter__(self) -> Counted:
        _counting.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        _counting.remove(self)
        super().__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Count one operation; one that is made of others counts as these."""
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        found = func(*args, **kwargs)
        if packet in flop_registry:
            self.operations += flop_registry[packet](*args, **kwargs, out_val=found)
        elif packet.__name__ == "mv":
            self.operations += 2 * args[0].numel()
        elif packet.__name__ == "addmm_":
            self.operations += 2 * args[1].numel() * args[2].shape[1]
        self.moved += _moved(func, (*args, *kwargs.values()), found)
        return found


def _moved(func: Any, given: Sequence[Any], found: Any) -> int:  # noqa: ANN401
    """Bytes that an operation reads and writes."""
    name = func._overloadpacket.__name__
    returned = func._schema.returns
    view = any(entry.alias_info and not entry.alias_info.is_write for entry in returned)
    if view or name in FREE:
        return 0
    written = sum(map(_bytes, _tensors([found])))
    return 2 * written if name in PICKING else written + sum(map(_bytes, _tensors(given)))


def _bytes(tensor: Tensor) -> int:
    """What is repeated by its strides is read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def balance(operations: float, moved: float, rates: tuple[float, float]) -> dict[str, Any]:
    """What holds a computation up: columns of a line.

    Args:
        operations: in a second.
        moved: bytes in a second.
        rates: the highest operations and bytes in a second, of a matrix product and of a copy.

    >>> balance(8e9, 1e9, (10e9, 20e9))
    {'matrix_share': 0.8, 'copy_share': 0.05, 'bound': 'compute'}
    >>> balance(2e9, 4e9, (10e9, 20e9))["bound"]
    'neither'
    """
    matrix, copy = operations / rates[0], moved / rates[1]
    bound = "compute" if matrix >= copy else "memory"
    if max(matrix, copy) < 0.5:
        bound = "neither"
    return {"matrix_share": matrix, "copy_share": copy, "bound": bound}
