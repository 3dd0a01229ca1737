"""Phrases of one, two and three words, and the largest answer of each filter (Kim 2014).

MMCA eq. 6-7, DCPA eq. 7-9; SAEM's sentence branch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.layers.narrow import for_products
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
        return self.by_place(words.transpose(0, 1), mask.T)

    def by_place(self, words: Tensor, mask: Tensor) -> Tensor:
        """The same of words laid out by their place: (W, M, word_dim), (W, M) to (M, dim)."""
        found: Tensor = self.linear(self.dropout(self._largest(words, mask)))
        found = found.to(torch.promote_types(found.dtype, self.linear.weight.dtype))
        if self.norm is not None:
            found = self.norm(found)
        return l2norm(found)

    def _largest(self, words: Tensor, mask: Tensor) -> Tensor:
        """q_l = max_k ReLU(W_l e_{k:k+l-1} + b_l), joined: (M, 3 filters)."""
        if self.positions == "all":
            mask = torch.ones_like(mask)
        whole = bool(mask.all())
        words = for_products(words if whole else words * mask.unsqueeze(2)).contiguous()
        parts = []
        for size, convolution in zip(WINDOWS, self.convolutions, strict=True):
            answers = self._answers(convolution, words)
            if self.positions == "all" or not whole:
                starts = self._starts(mask, size)
                answers = answers.masked_fill(~starts.unsqueeze(2), -torch.inf)
            parts.append(answers.amax(dim=0).relu())  # the largest of rectified values
        return torch.cat(parts, dim=1)

    def _starts(self, mask: Tensor, size: int) -> Tensor:
        """Where a window may start: (W, M)."""
        if self.positions == "words" or len(mask) < size:
            return mask
        inside = mask.clone()
        inside[len(mask) - size + 1 :] = False
        return inside

    @staticmethod
    def _answers(convolution: nn.Module, words: Tensor) -> Tensor:
        """Filter answers at each start, 0 behind the end: (W, M, word_dim) to (W, M, filters).

        The words that follow by so many places are the same memory, begun later: a product for
        each place of the window, added where it belongs, needs no copy of the windows and leaves
        out what lies behind the end.
        """
        weight, bias = convolution.get_parameter("weight"), convolution.get_parameter("bias")
        maps = for_products(weight).permute(2, 0, 1).contiguous()  # (size, filters, word_dim)
        many, flat = words.shape[1], words.flatten(0, 1)
        found = F.linear(flat, maps[0], bias)
        flat, maps = flat.to(found.dtype), maps.to(found.dtype)  # other autocasts round there alone
        for place in range(1, min(len(maps), len(words))):
            found[: len(flat) - place * many].addmm_(flat[place * many :], maps[place].T)
        return found.view(len(words), many, -1)
