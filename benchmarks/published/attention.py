"""SCAN and BFAN: one sentence after the other, repeated for each image, attended vectors and all.

As in the public code, regions attend over rows of their own. BFAN's `prob` compares every two
sources in a tensor; its `equal` needs none there either. The public code does all this in double
precision, because it keeps what it encoded so; here it is float32, twice as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from visavis.layers.attention import aggregate
from visavis.layers.norm import l2norm
from visavis.models.bfan import focal_weights_plain
from visavis.types import Encoded, Scores


def score(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """Every image with every sentence, in the directions of the model."""
    return Scores.shared(loop(model, images, sentences))


def loop(model: Any, images: Encoded, sentences: Encoded) -> Tensor:  # noqa: ANN401
    """One sentence after the other, repeated for each image: (N, M)."""
    config = model.config
    focal = getattr(config, "focal", "none")
    how = getattr(config, "aggregation", "Mean"), getattr(config, "lambda_lse", 1.0)
    columns = []
    for words, mask in zip(sentences.tokens, sentences.mask, strict=True):
        repeated = words[mask].repeat(len(images), 1, 1)  # (N, W, D)
        ways = {"t2i": (repeated, images.tokens), "i2t": (images.tokens, repeated)}
        scores = []
        chosen = [ways[config.direction]] if config.direction in ways else ways.values()
        for queries, sources in chosen:
            cosines = one_way(queries, sources, config.lambda_softmax, focal)
            scores.append(aggregate(cosines, torch.ones_like(cosines).bool(), *how))
        columns.append(torch.stack(scores).sum(dim=0))
    return torch.stack(columns, dim=1)


def one_way(queries: Tensor, sources: Tensor, smooth: float, focal: str) -> Tensor:
    """Cosines of queries (N, Q, D) with what they attend to in sources (N, S, D): (N, Q)."""
    affinity = torch.bmm(sources, queries.transpose(1, 2))  # (N, S, Q)
    affinity = l2norm(leaky_relu(affinity, 0.1), dim=2)
    weights = (smooth * affinity.transpose(1, 2).contiguous()).softmax(dim=2)  # (N, Q, S)
    if focal == "equal":
        kept = weights * (weights.shape[2] * weights - weights.sum(dim=2, keepdim=True) > 0)
        weights = kept / kept.sum(dim=2, keepdim=True)
    elif focal == "prob":
        weights = focal_weights_plain(weights, torch.ones_like(weights).bool(), "prob")
    attended = torch.bmm(sources.transpose(1, 2), weights.transpose(1, 2).contiguous())
    attended = attended.transpose(1, 2)  # (N, Q, D)
    dot = (queries * attended).sum(dim=2)
    return dot / (queries.norm(dim=2) * attended.norm(dim=2)).clamp_min(1e-8)
