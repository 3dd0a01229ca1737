"""Who a model is, wherever it lies: a hash of all that its answers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import nn

from visavis.config import plain
from visavis.models.pretrained import Pretrained


def identity_of(pretrained: Pretrained) -> dict[str, str]:
    """A model's name and digest, as files that were made by it keep them."""
    return {"name": pretrained.name, "digest": model_digest(pretrained)}


def model_digest(pretrained: Pretrained) -> str:
    """A hash of weights, settings, tokenizer and features, wherever the folder lies."""
    settings = [pretrained.name, plain(pretrained.model.config), plain(pretrained.features)]
    told = [*settings, pretrained.tokenizer.digest, pretrained.language_model]
    return digest_of(told, pretrained.model)


def digest_of(told: Sequence[object], module: nn.Module) -> str:
    """A hash of weights and of what is told beside them."""
    digest = hashlib.sha256()
    digest.update(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
