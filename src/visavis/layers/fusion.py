"""Fusing a vector of an image with one of a sentence to a score (MTFN, Wang et al. 2019).

Low-rank fusion is a sum over R products of two linear maps, weighted once more (eq. 3-4):

    f = Σ_r (A_r x + a_r) ⊙ (B_r y + b_r)        logit = w · f + c

Nothing non-linear follows the sum, so the logit is x̃' K ỹ with one matrix K, where x̃ and ỹ are x
and y with a 1 behind them. K' x̃ belongs to the image alone, ỹ to the sentence: the logit of a pair
is their inner product, and f need not exist. The fusions that MTFN is compared with (its table 3)
end in layers of their own, which every pair must go through.

Letters: D width of both vectors, F of the fused one, C = R F columns of all ranks side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from visavis.layers.pooling import masked_mean
from visavis.types import Encoded

Joining = Literal["sum", "product", "concatenation"]


def with_one(vectors: Tensor, *, biased: bool = True) -> Tensor:
    """A 1 behind each vector, where there are biases it stands for: (..., D) to (..., D + 1)."""
    return functional.pad(vectors, (0, 1), value=1.0) if biased else vectors


@dataclass(frozen=True, slots=True)
class Factors:
    """The parameters of a low-rank fusion; without biases the last three are None."""

    left: Tensor  # (C, D) all A_r
    right: Tensor  # (C, D) all B_r
    weight: Tensor  # (C,) w, once for each rank
    left_bias: Tensor | None = None  # (C,)
    right_bias: Tensor | None = None  # (C,)
    constant: Tensor | None = None  # (1,) c

    def matrix(self) -> Tensor:
        """K: (D + 1, D + 1), or (D, D) without biases."""
        weighted = self.left * self.weight[:, None]
        core = weighted.T @ self.right
        if self.left_bias is None or self.right_bias is None or self.constant is None:
            return core
        heavy = self.weight * self.left_bias  # (C,)
        column = torch.cat([weighted.T @ self.right_bias, heavy @ self.right_bias + self.constant])
        return torch.cat([torch.cat([core, (heavy @ self.right)[None]]), column[:, None]], dim=1)

    def turned(self, vectors: Tensor) -> Tensor:
        """K' x̃ of vectors x, without K: (..., D) to (..., D + 1 or D)."""
        columns = functional.linear(vectors, self.left, self.left_bias) * self.weight  # (..., C)
        found = columns @ self.right
        if self.right_bias is None or self.constant is None:
            return found
        return torch.cat([found, (columns @ self.right_bias).unsqueeze(-1) + self.constant], dim=-1)

    def fused(self, left: Tensor, right: Tensor, rank: int) -> Tensor:
        """The vector f as the equation has it, of every pair that broadcasting makes: (..., F)."""
        a = functional.linear(left, self.left, self.left_bias)
        b = functional.linear(right, self.right, self.right_bias)
        product = a * b  # (..., C)
        return product.reshape(*product.shape[:-1], rank, -1).sum(dim=-2)

    def mirrored(self) -> Factors:
        """The right factors on both sides: what fuses a sentence with an image, for two sentences.

        The left ones mean nothing to a sentence vector.
        """
        right, bias = self.right, self.right_bias
        return Factors(right, right, self.weight, bias, bias, self.constant)

    def plus(self, other: Factors) -> Factors:
        """Parameter by parameter the sum of two; no gradient reaches those of the first."""
        return Factors(
            self.left.detach() + other.left,
            self.right.detach() + other.right,
            self.weight.detach() + other.weight,
            _sum(self.left_bias, other.left_bias),
            _sum(self.right_bias, other.right_bias),
            _sum(self.constant, other.constant),
        )


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first.detach() + second


class LowRankFusion(nn.Module):
    """Eq. 3-4: R pairs of maps to width F, and the weights of the fused vector."""

    def __init__(self, dim: int, fused: int, rank: int, *, biased: bool) -> None:
        super().__init__()
        self.rank = rank
        self.biased = biased
        self.left = nn.Linear(dim, rank * fused, bias=biased)
        self.right = nn.Linear(dim, rank * fused, bias=biased)
        self.out = nn.Linear(fused, 1, bias=biased)
        self._kept = KeptMatrix()

    def factors(self) -> Factors:
        """The parameters as they are."""
        return Factors(
            self.left.weight,
            self.right.weight,
            self.out.weight[0].repeat(self.rank),
            self.left.bias if self.biased else None,
            self.right.bias if self.biased else None,
            self.out.bias if self.biased else None,
        )

    def images(self, vectors: Tensor) -> Tensor:
        """K' x̃: its inner product with `sentences` is the logit."""
        return self._kept.turned(vectors, self.factors, list(self.parameters()))

    def sentences(self, vectors: Tensor) -> Tensor:
        """The vectors ỹ."""
        return with_one(vectors, biased=self.biased)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits of what `images` and `sentences` gave, which is broadcast: (...)."""
        return (left * right).sum(dim=-1)

    def vectors(self, left: Tensor, right: Tensor) -> Tensor:
        """The vector f of x and y (..., D) that are broadcast: (..., F)."""
        return self.factors().fused(left, right, self.rank)

    def straight(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits by the equations, of x and y (..., D) that are broadcast: (...)."""
        logit: Tensor = self.out(self.vectors(left, right))
        return logit.squeeze(-1)

    def forget(self) -> None:
        """Drop what was kept of these parameters."""
        self._kept.forget()


class ChangedFusion(LowRankFusion):
    """A fusion of two sentences that starts from another one and learns how it differs from it.

    Its own parameters are 0 at first and are added to those of the other's sentence side, which it
    leaves alone: it is initialised by them at whatever moment its training begins.
    """

    def __init__(self, dim: int, fused: int, rank: int, *, biased: bool) -> None:
        super().__init__(dim, fused, rank, biased=biased)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def on(self, base: LowRankFusion, vectors: Tensor) -> Tensor:
        """K' x̃ of the changed fusion."""
        parameters = [*base.parameters(), *self.parameters()]
        return self._kept.turned(
            vectors, lambda: base.factors().mirrored().plus(self.factors()), parameters
        )


class KeptMatrix:
    """K, kept while its parameters stay what they are; never where gradients are wanted."""

    def __init__(self) -> None:
        self._key: tuple[tuple[int, int], ...] = ()
        self._matrix: Tensor | None = None

    def forget(self) -> None:
        """Drop the matrix."""
        self._key, self._matrix = (), None

    def turned(
        self, vectors: Tensor, factors: Callable[[], Factors], parameters: Sequence[Tensor]
    ) -> Tensor:
        """K' x̃ of vectors x (..., D).

        K costs as much as turning D / 2 vectors without it, so a training batch, for which it
        would have to be made anew, does without.
        """
        if torch.is_grad_enabled():
            found = factors()
            if 2 * vectors[..., 0].numel() < vectors.shape[-1]:
                return found.turned(vectors)
            return with_one(vectors, biased=found.left_bias is not None) @ found.matrix()
        with torch.autocast(vectors.device.type, enabled=False):
            matrix = self._matrix_of(factors, parameters)
            biased = len(matrix) > vectors.shape[-1]
            return with_one(vectors.to(matrix.dtype), biased=biased) @ matrix

    def _matrix_of(self, factors: Callable[[], Factors], parameters: Sequence[Tensor]) -> Tensor:
        key = tuple((value.data_ptr(), value._version) for value in parameters)
        if self._matrix is None or key != self._key:
            self._key, self._matrix = key, factors().matrix()
        return self._matrix


class LayeredFusion(nn.Module):
    """Sum, product or concatenation of both vectors, then fully connected layers with ReLU.

    Args:
        dim: of both vectors.
        how: what joins them.
        hidden: width of the layers.
        layers: how many stand before the one that gives the score.
        dropout: behind each of them.
    """

    def __init__(self, dim: int, how: Joining, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(dim, hidden)
        self.second = nn.Linear(dim, hidden, bias=False) if how == "concatenation" else None
        deeper = [
            part
            for _ in range(layers - 1)
            for part in (nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden))
        ]
        self.rest = nn.Sequential(*deeper, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def images(self, vectors: Tensor) -> Tensor:
        """The image's share of the first layer: (..., D) to (..., hidden); x for a product."""
        found: Tensor = vectors if self.how == "product" else self.first(vectors)
        return found

    def sentences(self, vectors: Tensor) -> Tensor:
        """The sentence's share of the first layer: (..., D) to (..., hidden); y for a product."""
        if self.how == "product":
            return vectors
        weight = self.first.weight if self.second is None else self.second.weight
        return functional.linear(vectors, weight)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits of the shares of both sides, which are broadcast: (...)."""
        joined = self.first(left * right) if self.how == "product" else left + right
        logit: Tensor = self.rest(joined)
        return logit.squeeze(-1)

    def vectors(self, left: Tensor, right: Tensor) -> Tensor:
        """What the last layer reads, of x and y (..., D), which are broadcast: (..., hidden)."""
        weight: Tensor = self.first.weight
        if self.second is not None:
            both = [left + torch.zeros_like(right), right + torch.zeros_like(left)]  # broadcast
            joined = torch.cat(both, dim=-1)
            weight = torch.cat([weight, self.second.weight], dim=1)
        else:
            joined = left * right if self.how == "product" else left + right
        found: Tensor = self.rest[:-1](functional.linear(joined, weight, self.first.bias))
        return found

    def straight(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits of x and y (..., D), which are broadcast, layer by layer: (...)."""
        logit: Tensor = self.rest[-1](self.vectors(left, right))
        return logit.squeeze(-1)


def fused_pairs(fusion: LowRankFusion | LayeredFusion, x: Encoded, y: Encoded) -> Tensor:
    """The vector whose last linear map is the logit, for aligned rows: (P, F).

    Each word is fused with its best region, and the mean is taken over the words; where both sides
    are one vector, that is their only one.

    Args:
        fusion: of all of them.
        x: vectors of P images (P, L, D), before the fusion.
        y: vectors of P sentences (P, W, D), before the fusion.
    """
    left, right = fusion.images(x.tokens), fusion.sentences(y.tokens)
    logits = fusion.combine(left.unsqueeze(2), right.unsqueeze(1))  # (P, L, W)
    best = logits.masked_fill(~x.mask.unsqueeze(2), -torch.inf).argmax(dim=1)  # (P, W)
    chosen = x.tokens.take_along_dim(best.unsqueeze(2), dim=1)  # (P, W, D)
    return masked_mean(fusion.vectors(chosen, y.tokens), y.mask)
