"""MTFN: 128 images with 128 sentences at a time, all rank-1 terms of every pair in one tensor.

The tensor has 20 numbers for each pair and each of 1,024 columns: 1.3 GB, and its terms as much
again. The score is the logit, without the sigmoid of the public code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

from visavis.types import Encoded, Scores


def score(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """W · Σ_r (A_r x) ⊙ (B_r y) of every pair."""
    fusion = model.fusion
    maps = (fusion.left.weight.chunk(fusion.rank), fusion.right.weight.chunk(fusion.rank))
    x, y = images.tokens[:, 0], sentences.tokens[:, 0]
    terms = [
        linear(x, left).unsqueeze(1) * linear(y, right).unsqueeze(0)  # (N, M, F)
        for left, right in zip(*maps, strict=True)
    ]
    return Scores.shared(fusion.out(torch.stack(terms, dim=1).sum(dim=1)).squeeze(2))
