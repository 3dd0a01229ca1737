"""MMCA: one sentence after the other stacked with each image, the joint unit run on each stack.

No code was published. Nothing that a fragment knows by itself is kept: queries, keys and values of
the regions are made anew with every sentence, those of the words with every image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from visavis.layers.norm import l2norm
from visavis.types import Encoded, Scores


def score(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """i0 . c0 + alpha i1 . c1 of every pair."""
    columns = []
    for place, (tokens, mask) in enumerate(zip(sentences.tokens, sentences.mask, strict=True)):
        words = tokens[mask].repeat(len(images), 1, 1)  # (N, W, D)
        stacked = torch.cat([images.tokens, words], dim=1)
        real = torch.cat([images.mask, torch.ones_like(words[..., 0]).bool()], dim=1)
        updated = model.joint_unit(stacked, real)  # (N, R + W, D)
        regions, words = updated[:, : images.mask.shape[1]], updated[:, images.mask.shape[1] :]
        i1 = l2norm((regions * images.mask.unsqueeze(2)).sum(dim=1))
        c1 = phrases(model.joint_phrases or model.phrases, words)
        alone = images.pooled @ sentences.pooled[place]
        columns.append(alone + model.config.alpha * (i1 * c1).sum(dim=1))
    return Scores.shared(torch.stack(columns, dim=1))


def phrases(cnn: Any, words: Tensor) -> Tensor:  # noqa: ANN401
    """Phrases of one, two and three words, the largest answer of each filter: (N, D)."""
    found = []
    for convolution in cnn.convolutions:
        room = convolution.weight.shape[2] - 1
        answers = conv1d(
            pad(words.transpose(1, 2), (0, room)), convolution.weight, convolution.bias
        )
        found.append(answers.relu().amax(dim=2))
    mapped = cnn.linear(torch.cat(found, dim=1))
    return l2norm(mapped if cnn.norm is None else cnn.norm(mapped))
