"""Which form of cross attention is computed: a fused one where one can be, else the eager one.

`VISAVIS_KERNEL` or `using` name one; `auto`, the default, takes the first of `KERNELS` that this
machine can run and that takes the request. What cannot be had is replaced by the eager form, which
is ordinary PyTorch, with one line in the log. `compiled`, the eager form through torch.compile, is
used only when it is named.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor

from visavis.errors import RecipeError
from visavis.kernels import compiled
from visavis.kernels.spec import AttendSpec, Attention, Eager, Items, Kernel

VARIABLE = "VISAVIS_KERNEL"
AUTO, EAGER, COMPILED = "auto", "eager", "compiled"

# By preference; each is a module with the functions of `Kernel`.
KERNELS = {
    "triton": "visavis.kernels.triton_attend",
    "native": "visavis.kernels.native",
}

# Not kernels, but ways to run the equations themselves.
FORMS: dict[str, Callable[[Eager], Tensor]] = {
    EAGER: lambda eager: eager(),
    COMPILED: compiled.scores,
}

USUAL = AttendSpec(smooth=9.0)

_asked: ContextVar[str | None] = ContextVar("visavis_kernel", default=None)
_notes: ContextVar[tuple[set[str], ...]] = ContextVar("visavis_kernels_that_ran", default=())
_log = logging.getLogger(__name__)


def attended_scores(attention: Attention, eager: Eager) -> Tensor:
    """Every left item with every right one: (left items, right items).

    Args:
        attention: what is asked for.
        eager: the same in ordinary PyTorch, for where no kernel takes it.
    """
    name = _noted(attention)
    if name in FORMS:
        return FORMS[name](eager)
    return _module(name).attended_scores(attention)


def attended_pairs(attention: Attention, eager: Eager) -> Tensor:
    """Row p of one side with row p of the other: (P,). Arguments as for `attended_scores`."""
    name = _noted(attention)
    if name in FORMS:
        return FORMS[name](eager)
    return _module(name).attended_pairs(attention)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Name the kernel for what is computed in the block: one of `KERNELS`, `eager` or `auto`.

    Raises:
        RecipeError: there is none of that name.
    """
    token = _asked.set(_known(name, "using"))
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def noting() -> Iterator[set[str]]:
    """Names of the forms that compute what is asked for in the block, as they come.

    >>> with noting() as ran:
    ...     pass
    >>> ran
    set()
    """
    ran: set[str] = set()
    token = _notes.set((*_notes.get(), ran))
    try:
        yield ran
    finally:
        _notes.reset(token)


def asked_for() -> str:
    """The name that `using` or else `VISAVIS_KERNEL` gives; `auto` without either.

    Raises:
        RecipeError: the variable names none that is known.
    """
    given = _asked.get()
    return given if given is not None else _known(os.environ.get(VARIABLE) or AUTO, VARIABLE)


def kernel_name(attention: Attention) -> str:
    """The name of the form that computes a request, for logs and files of results."""
    asked = asked_for()
    if asked == COMPILED and not compiled.refusal(attention):
        return COMPILED
    if asked in FORMS:
        return EAGER
    for name in KERNELS if asked == AUTO else [asked]:
        obstacle = _obstacle(name, attention)
        if obstacle is None:
            return name
        if asked != AUTO or obstacle.failed:
            _say_once(name, obstacle.why)
    return EAGER


def usual_kernel(device: str = "cpu") -> str:
    """The name of the form that computes what a kernel is made for: float32, the usual norm."""
    return kernel_for(USUAL, device)


def kernel_for(spec: AttendSpec, device: str = "cpu") -> str:
    """The name of the form that computes float32 requests of one kind on a device."""
    return kernel_name(_smallest(device, spec))


def is_fused(spec: AttendSpec, device: str = "cpu") -> bool:
    """Whether a kernel computes float32 requests of one kind on a device, and keeps no arrays."""
    return kernel_for(spec, device) in KERNELS


def report(device: str = "cpu") -> dict[str, str]:
    """Each kernel and `eager` with `used`, or why it is not; for people who ask what runs."""
    used = usual_kernel(device)
    asked = asked_for()
    found = {}
    for name in KERNELS:
        obstacle = _obstacle(name, _smallest(device, USUAL))
        if name == used:
            found[name] = "used"
        elif obstacle is not None:
            found[name] = obstacle.why
        else:
            found[name] = f"{asked if asked != AUTO else used} comes first"
    named = f"only when it is named: {VARIABLE}={COMPILED}"
    found[COMPILED] = "used, without gradients" if used == COMPILED else named
    found[EAGER] = "used" if used == EAGER else "for what the others do not take"
    return found


def _noted(attention: Attention) -> str:
    name = kernel_name(attention)
    for ran in _notes.get():
        ran.add(name)
    return name


@dataclass(frozen=True, slots=True)
class _Obstacle:
    why: str
    failed: bool = False  # the kernel takes such requests, but cannot be had


def _obstacle(name: str, attention: Attention) -> _Obstacle | None:
    kernel = _module(name)
    refusal = kernel.refusal(attention)
    if refusal:
        return _Obstacle(refusal)
    missing = kernel.missing()
    return _Obstacle(missing, failed=True) if missing else None


@cache
def _module(name: str) -> Kernel:
    return cast("Kernel", importlib.import_module(KERNELS[name]))


def _known(name: str, where: str) -> str:
    names = [AUTO, *FORMS, *KERNELS]
    if name not in names:
        raise RecipeError(f"{where}: no kernel {name!r}; known are {', '.join(names)}")
    return name


@cache
def _say_once(name: str, why_not: str) -> None:
    _log.warning("the %s kernel is not used: %s", name, why_not)


@cache
def _smallest(device: str, spec: AttendSpec) -> Attention:
    ones = torch.ones(1, 1, 1, device=device)
    side = Items(ones, ones[:, :, 0] > 0)
    return Attention(left=side, right=side, left_looks=spec)
