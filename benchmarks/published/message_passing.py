"""CAMP: five images at a time, each put beside every sentence, every module run on every pair.

Regions are repeated for each sentence, words for each image, so that maps to keys, gates, fusion
and pooling see the same item once for every pair. Sentences are padded to 50 words as in the public
code, whose masks make that harmless. The paper's own form, which was not published, is arranged in
the same way. The score is the logit, without the sigmoid of the public code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from visavis.types import Encoded, Scores

WORDS = 50


def score(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """Logits of every pair."""
    shape = len(images), len(sentences)
    room = max(0, WORDS - sentences.mask.shape[1])
    tokens, mask = pad(sentences.tokens, (0, 0, 0, room)), pad(sentences.mask, (0, room))
    regions, seen = (_repeated(part, shape, 1) for part in (images.tokens, images.mask))
    words, real = (_repeated(part, shape, 0) for part in (tokens, mask))
    keys = model.regions.key(regions), model.words.key(words)
    affinity = torch.bmm(keys[0], keys[1].transpose(1, 2)) / keys[0].shape[2] ** 0.5  # (P, R, W)
    to_words = affinity.masked_fill(~real.unsqueeze(1), -torch.inf).softmax(dim=2)
    to_regions = affinity.masked_fill(~seen.unsqueeze(2), -torch.inf).softmax(dim=1)
    heard, told = torch.bmm(to_words, words), torch.bmm(to_regions.transpose(1, 2), regions)
    left = pooled(model.regions.pool, fused(model.regions.fusion, regions, heard), seen)
    right = pooled(model.words.pool, fused(model.words.fusion, words, told), real)
    joined = torch.cat([left, right], dim=1) if model.wide else left + right
    return Scores.shared(model.mlp(joined).view(shape))


def _repeated(part: Tensor, shape: tuple[int, int], axis: int) -> Tensor:
    """Entries (N, ...) or (M, ...) copied for each pair: (N M, ...)."""
    wide = part.unsqueeze(axis).expand(*shape, *part.shape[1:])
    return wide.reshape(shape[0] * shape[1], *part.shape[1:])


def fused(fusion: Any, own: Tensor, message: Tensor) -> Tensor:  # noqa: ANN401
    """ReLU(W (gate ⊙ (own, message)) + b) + own: (P, L, D)."""
    gate = own * message
    if fusion.config.gate == "scalar":
        gate = gate.sum(dim=2, keepdim=True)
    joined = torch.cat([own, message], dim=2) if fusion.config.fusion == "concat" else own + message
    mapped: Tensor = fusion.linear(gate.sigmoid() * joined).relu()
    return mapped + own


def pooled(pool: Any, tokens: Tensor, mask: Tensor) -> Tensor:  # noqa: ANN401
    """Weighted sums of fragments, by one weight each or by the mean of several: (P, D)."""
    logits = pool.linear(tokens)  # (P, L, 1) or (P, L, D)
    logits = pool.out(logits.relu()) if pool.heads else logits / tokens.shape[2] ** 0.5
    weights = logits.masked_fill(~mask.unsqueeze(2), -torch.inf).softmax(dim=1)
    return torch.bmm(weights.transpose(1, 2), tokens).mean(dim=1)
