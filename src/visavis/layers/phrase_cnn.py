"""Phrases of one, two and three words, and the largest answer of each filter (Kim 2014).

MMCA eq. 6-7, DCPA eq. 7-9; SAEM's sentence branch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.layers.norm import l2norm

WINDOWS = (1, 2, 3)

Positions = Literal["words", "all"]


class PhraseCnn(nn.Module):
    """Word vectors to one unit vector for the sentence.

    Args:
        word_dim: width of the word vectors.
        filters: for each window size.
        dim: width of the sentence vector.
        layer_norm: normalise the columns before the length, as MMCA eq. 7 and DCPA eq. 9 write;
            their text says l2 normalisation alone.
        dropout: before the linear map.
        positions: `words`: a window starts at each real word and sees 0 behind the last one (the
            papers' p_{l,1..n}). `all`: windows inside the padded width, padding included, as
            SAEM's code does; the vector then depends on how far the batch is padded.
    """

    def __init__(
        self,
        word_dim: int,
        filters: int,
        dim: int,
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
        positions: Positions = "words",
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(word_dim, filters, size) for size in WINDOWS)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(len(WINDOWS) * filters, dim)
        self.norm = nn.LayerNorm(dim) if layer_norm else None
        self.positions: Positions = positions

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Words (M, W, word_dim) and their mask (M, W) to unit vectors (M, dim)."""
        found: Tensor = self.linear(self.dropout(self._largest(words, mask)))
        if self.norm is not None:
            found = self.norm(found)
        return l2norm(found)

    def _largest(self, words: Tensor, mask: Tensor) -> Tensor:
        """q_l = max_k ReLU(W_l e_{k:k+l-1} + b_l), joined: (M, 3 filters)."""
        if self.positions == "all":
            mask = torch.ones_like(mask)
        parts = [
            self._answers(convolution, words * mask.unsqueeze(2))
            .masked_fill(~self._starts(mask, size).unsqueeze(2), -torch.inf)
            .amax(dim=1)
            .relu()  # the largest of rectified values is the rectified largest
            for size, convolution in zip(WINDOWS, self.convolutions, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _starts(self, mask: Tensor, size: int) -> Tensor:
        """Where a window may start: (M, W)."""
        if self.positions == "words" or mask.shape[1] < size:
            return mask
        inside = mask.clone()
        inside[:, mask.shape[1] - size + 1 :] = False
        return inside

    @staticmethod
    def _answers(convolution: nn.Module, words: Tensor) -> Tensor:
        """Filter answers at each start, 0 behind the end: (M, W, word_dim) to (M, W, filters)."""
        weight, bias = convolution.get_parameter("weight"), convolution.get_parameter("bias")
        width, size = words.shape[1], weight.shape[2]
        padded = F.pad(words, (0, 0, 0, size - 1))
        windows = torch.cat([padded[:, place : place + width] for place in range(size)], dim=2)
        # One large matrix product: for short sentences twice as fast as a convolution.
        return F.linear(windows, weight.transpose(1, 2).flatten(1), bias)
