"""The eager form through torch.compile: for scores without gradients, and only when named.

The compiler fuses the passes over affinities that ordinary PyTorch makes one by one. On processors
the native kernel is far ahead of it; it is there for other devices and for what no kernel takes.
With PyTorch 2.13 its backward pass of these equations destroys memory, so gradients stay eager.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from visavis.kernels.spec import Attention, Eager

_log = logging.getLogger(__name__)


def refusal(attention: Attention) -> str:
    """Why a request is not taken; empty where it is."""
    sides = attention.left, attention.right
    if torch.is_grad_enabled() and any(side.vectors.requires_grad for side in sides):
        return "it computes no gradients"
    return ""


def scores(eager: Eager) -> Tensor:
    """What the eager form gives, compiled at the first call; eager where nothing compiles."""
    if not _works():
        return eager()
    # Sizes are open from the start: blocks differ, and each new size would be compiled again.
    found: Tensor = torch.compile(eager, dynamic=True)()
    return found


@cache
def _works() -> bool:
    """Whether a trifle can be compiled: what is missing, a compiler above all, shows there."""
    # It tells of each place that Python decides in; there is one, and it costs nothing.
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    try:
        torch.compile(torch.exp, dynamic=True)(torch.ones(8))
    except Exception as error:  # noqa: BLE001  (compilers and PyTorch's own fail in any way)
        line = str(error).strip().splitlines()
        _log.warning("nothing can be compiled, scores are eager: %s", line[0] if line else error)
        return False
    return True
