"""Fragments fused with the messages they got, and fused fragments made one (CAMP, eq. 5-11).

    g = sigmoid(v ⊙ f)        fused = ReLU(W (g ⊙ (v ⊕ f)) + b) + v

with a gate for each element, as in the paper, or one number g = sigmoid(v · f), as in its code. A
number can be drawn out of the product with W, and a sum or a concatenation be taken apart:

    W (g (v ⊕ f))  =  g (W₁ v + W₂ f)

so `own` and `given` are known per item, and the message enters as a weighted sum of `given`. A gate
of D elements stands between W and the sum; then W must be applied for every pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Gate = Literal["vector", "scalar", "none"]
Fusion = Literal["add", "concat", "product"]


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """What is fused, and how."""

    fusion: Fusion = "add"  # ⊕
    gate: Gate = "vector"
    residual: bool = True
    bias: bool = True  # b


class GatedFusion(nn.Module):
    """Eq. 5-6, or 7-9: fragments `own` (..., D) and messages (..., D) to fused fragments."""

    def __init__(self, dim: int, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = dim
        width = 2 * dim if config.fusion == "concat" else dim
        self.linear = nn.Linear(width, dim, bias=config.bias)
        start(self.linear, dim)

    @property
    def splits(self) -> bool:
        """Whether W applies to fragment and message apart from each other."""
        return self.config.gate != "vector" and self.config.fusion != "product"

    def gate(self, own: Tensor, message: Tensor) -> Tensor:
        """Eq. 5 or 7: (..., D), or (..., 1) for `scalar`."""
        product = own * message
        if self.config.gate == "scalar":
            product = product.sum(dim=-1, keepdim=True)
        return product.sigmoid_()

    def forward(self, own: Tensor, message: Tensor) -> Tensor:
        """Eq. 6 or 9 as it stands: (..., D)."""
        return self.with_residual(self.mapped(own, message), own)

    def mapped(self, own: Tensor, message: Tensor) -> Tensor:
        """F of eq. 6 or 9, before the residual: (..., D)."""
        fusion, weight, bias = self.config.fusion, self.linear.weight, self.linear.bias
        gate = None if self.config.gate == "none" else self.gate(own, message)
        if fusion == "concat":
            left, right = (_gated(part, gate) for part in (own, message))
            mapped = F.linear(right, weight[:, self.dim :], bias)
            mapped += F.linear(left, weight[:, : self.dim])
        else:
            fused = own + message if fusion == "add" else own * message
            mapped = F.linear(_gated(fused, gate, fresh=True), weight, bias)
        return mapped.relu_()

    def own(self, tokens: Tensor) -> Tensor:
        """W₁ v of fragments: (..., D)."""
        return F.linear(tokens, self.linear.weight[:, : self.dim])

    def given(self, tokens: Tensor) -> Tensor:
        """W₂ x of fragments of the other side, which messages are sums of: (..., D)."""
        return F.linear(tokens, self.linear.weight[:, -self.dim :])

    def joined(self, own: Tensor, given: Tensor, gate: Tensor | None) -> Tensor:
        """`mapped` from W₁ v, W₂ f and the gate (..., 1) or None, where W `splits`."""
        mapped = _gated(own + given, gate, fresh=True)
        if self.linear.bias is not None:
            mapped = mapped + self.linear.bias
        return mapped.relu_()

    def with_residual(self, mapped: Tensor, own: Tensor) -> Tensor:
        """The last term of eq. 6 or 9, where there is one."""
        if not self.config.residual:
            return mapped
        return mapped + own if torch.is_grad_enabled() else mapped.add_(own)


class AttentionPool(nn.Module):
    """Many fragments to one, each weighed by what it is (eq. 10-11).

    Args:
        dim: D.
        heads: 0: softmax(w v / sqrt(D)), as in the paper. Else as in its code: so many softmaxes of
            a perceptron D to D to `heads`, whose weighted sums are averaged. The code's second map
            has a bias; it moves all logits of a head alike, so it does nothing and is left out.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.linear = nn.Linear(dim, dim if heads else 1, bias=bool(heads))
        self.out = nn.Linear(dim, heads, bias=False) if heads else None

    def level(self, tokens: Tensor) -> Tensor:
        """The first map without its bias, linear in the fragments: (..., D), or (..., 1)."""
        return F.linear(tokens, self.linear.weight)

    def weigh(self, level: Tensor, mask: Tensor) -> Tensor:
        """Weights (..., L) from `level` (..., L, D or 1) and a mask that broadcasts to (..., L)."""
        if self.out is None:
            logits = level.to(self.linear.weight.dtype) / math.sqrt(self.dim)
        else:
            logits = self.out((level + self.linear.bias).relu_()).to(self.linear.weight.dtype)
        if not bool(mask.all()):
            logits = logits.masked_fill(~mask.unsqueeze(-1), -torch.inf)
        weights: Tensor = logits.softmax(dim=-2).mean(dim=-1)
        return weights

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(..., L, D) and a mask to (..., D)."""
        return weighted(self.weigh(self.level(tokens), mask), tokens)


def weighted(weights: Tensor, tokens: Tensor) -> Tensor:
    """Sum of fragments: weights that broadcast to (..., L), and (..., L, D), to (..., D)."""
    weights = weights.expand(tokens.shape[:-1])
    return (weights.unsqueeze(-2) @ tokens).squeeze(-2)


def start(linear: nn.Linear, dim: int) -> None:
    """Uniform as for a square matrix of width D by Xavier, zero bias: so the published code."""
    bound = math.sqrt(3 / dim)
    nn.init.uniform_(linear.weight, -bound, bound)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def _gated(vectors: Tensor, gate: Tensor | None, *, fresh: bool = False) -> Tensor:
    """The product g ⊙ vectors, in their own memory where neither others nor gradients need it."""
    if gate is None:
        return vectors
    return vectors.mul_(gate) if fresh and not torch.is_grad_enabled() else gate * vectors
