"""Matrix products on bfloat16, where autocast asks for them.

Autocast rounds the inputs of each product by itself. What enters several of them is rounded once
here, and what is rounded here can be added up in place.
"""

from __future__ import annotations

import torch
from torch import Tensor


def narrow(device: torch.device) -> bool:
    """Whether autocast makes matrix products of bfloat16 on a device."""
    kind = device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16


def for_products(vectors: Tensor) -> Tensor:
    """Vectors as products take them: rounded to bfloat16 under such an autocast, else as given."""
    return vectors.bfloat16() if narrow(vectors.device) else vectors
