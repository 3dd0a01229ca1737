"""One side of message passing: what its fragments hear, and what becomes of them (CAMP, eq. 1-11).

Two forms with equal results. `forward` takes every pair at once and builds no message where the
algebra of `visavis.layers.messages` and `visavis.layers.gated_fusion` spares it; `alone` follows
the equations for aligned rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.layers.gated_fusion import AttentionPool, FusionConfig, GatedFusion, start, weighted
from visavis.layers.messages import (
    Items,
    attended,
    attended_again,
    averaged,
    carried,
    lengths,
)
from visavis.layers.narrow import for_products
from visavis.layers.norm import EPSILON, l2norm
from visavis.layers.pooling import masked_mean
from visavis.types import Encoded

Messages = Literal["attention", "mean", "none"]
Pooling = Literal["attention", "mean"]


@dataclass(frozen=True, kw_only=True)
class PassingConfig:
    """How one side takes messages."""

    width: int  # d_h, where affinities are measured
    messages: Messages = "attention"
    twice: bool = False  # messages attend to each other, and have length 1 when they are fused
    fuse: bool = True  # false: the messages themselves are pooled
    fusion: FusionConfig = field(default_factory=FusionConfig)
    pooling: Pooling = "attention"
    heads: int = 0  # of that pooling; 0: eq. 10
    padded_to: int = 0  # pooling mean: padding counts up to so many fragments


class Passing(nn.Module):
    """One side: its maps of eq. 1, its fusion (eq. 5-9) and its pooling (eq. 10-11)."""

    def __init__(self, dim: int, config: PassingConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = dim
        twice = config.twice
        self.key = nn.Linear(dim, config.width, bias=False)
        start(self.key, dim)
        self.query = nn.Linear(dim, config.width, bias=False) if twice else None
        self.again_query = nn.Linear(dim, dim, bias=False) if twice else None
        self.again_key = nn.Linear(dim, dim, bias=False) if twice else None
        self.fusion = GatedFusion(dim, config.fusion)
        self.pool = AttentionPool(dim, config.heads)

    @property
    def measures(self) -> bool:
        """Whether `forward` needs the inner products of the fragments themselves, for its gates."""
        return self.config.fuse and self.fusion.splits and self.config.fusion.gate == "scalar"

    @property
    def pools_apart(self) -> bool:
        """Whether the residual is pooled beside what it would be added to.

        Logits and sums of eq. 10-11 are linear: w (x + v) = w x + w v, and the same for sum a x.
        The perceptron of the code is not.
        """
        config = self.config
        linear = config.pooling == "mean" or not config.heads
        return config.fuse and config.fusion.residual and linear

    def look(self, tokens: Tensor) -> Tensor:
        """Fragments as they look at the other side: (..., d_h)."""
        found: Tensor = (self.query or self.key)(tokens)
        return found

    def relation(self, tokens: Tensor) -> Tensor | None:
        """What messages made of this side's fragments say to each other: (..., L, L)."""
        if self.again_query is None or self.again_key is None:
            return None
        product: Tensor = self.again_query(tokens) @ self.again_key(tokens).transpose(-2, -1)
        scaled: Tensor = product / self.dim**0.5
        return scaled

    def brought(self, tokens: Tensor, other: Passing) -> dict[str, Tensor]:
        """What this side's fragments (N, L, D) bring into every pair, for `forward` of both."""
        config = self.config
        found: dict[str, Tensor] = {}
        relation = self.relation(tokens)
        if config.messages == "attention":
            found["key"] = self.key(tokens)
            if relation is not None:
                found |= {"query": self.look(tokens), "relation": relation}
        if config.fuse and config.twice:
            found["gram"] = tokens @ tokens.transpose(1, 2)
        if self.pools_apart and config.pooling == "attention":
            found["weight"] = self.pool.level(tokens)
        if config.fuse and self.fusion.splits:
            found |= {"own": self.fusion.own(tokens), "given": other.fusion.given(tokens)}
        elif not config.fuse and config.messages == config.pooling == "attention":
            found["level"] = other.pool.level(tokens)
        return found

    def forward(
        self, looking: Items, seen: Items, affinity: Tensor | None, product: Tensor | None
    ) -> Tensor:
        """Each item as it is with each one that it sees: (G, B, A, D); A is 1 where all are alike.

        Args:
            looking: A items of this side in each of G grids.
            seen: B items of the other.
            affinity: of eq. 1, scaled, (G, B, S, A, L); None: messages are means.
            product: inner products of the fragments, the same shape, where this side `measures`.
        """
        config = self.config
        if affinity is None:
            weights = averaged(seen.mask)
        else:
            weights = attended(affinity, seen.mask)
            if config.twice:
                weights = attended_again(weights, seen.extra["relation"], looking.mask)
        mask = looking.mask.unsqueeze(1)
        if config.fuse:
            return self._pooled(looking, self._fused(looking, seen, weights, product), mask)
        if affinity is None:  # all messages are the same mean, and so is what is made of them
            return carried(weights, seen.tokens).squeeze(3)
        shares = self._even(mask)
        if config.pooling == "attention":
            shares = self.pool.weigh(carried(weights, seen.extra["level"]), mask)
        gathered = (weights * shares.unsqueeze(2)).sum(dim=4)  # (G, B, S, A)
        return gathered.transpose(2, 3) @ seen.tokens

    def _fused(
        self, looking: Items, seen: Items, weights: Tensor, product: Tensor | None
    ) -> Tensor:
        """F of eq. 5-9 with messages of some weights (G, B, S, A, L): (G, B, A, L, D)."""
        tokens = looking.tokens.unsqueeze(1)
        if self.config.twice:
            weights = weights / (lengths(weights, seen.extra["gram"]) + EPSILON)
        if not self.fusion.splits:
            return self.fusion.mapped(tokens, carried(weights, seen.tokens))
        gate = None
        if product is not None:  # v · f, as a sum of v · x_s
            gate = (weights * product).sum(dim=2).sigmoid().unsqueeze(-1)  # (G, B, A, L, 1)
        given = carried(weights, seen.extra["given"])
        return self.fusion.joined(looking.extra["own"].unsqueeze(1), given, gate)

    def _pooled(self, looking: Items, mapped: Tensor, mask: Tensor) -> Tensor:
        """Eq. 10-11 of F's values (G, B, A, L, D) and the residual: (G, B, A, D)."""
        tokens, apart = looking.tokens, self.pools_apart
        if not apart:
            mapped = self.fusion.with_residual(mapped, tokens.unsqueeze(1))
        shares = self._even(mask)
        if self.config.pooling == "attention":
            level = self.pool.level(mapped)
            level = level + looking.extra["weight"].unsqueeze(1) if apart else level
            shares = self.pool.weigh(level, mask)
        found = weighted(shares, mapped).to(tokens.dtype)
        if apart:
            found += (shares.transpose(1, 2) @ for_products(tokens)).transpose(1, 2)
        return found

    def _even(self, mask: Tensor) -> Tensor:
        """Weights of a mean (..., L); with `padded_to`, the last place stands for all padding."""
        count = mask.sum(dim=-1, keepdim=True)
        if not self.config.padded_to:
            return mask / count
        total = count.clamp_min(self.config.padded_to)
        last = F.one_hot(torch.tensor(mask.shape[-1] - 1, device=mask.device), mask.shape[-1])
        return (mask + last * (total - count)) / total

    def alone(self, looking: Encoded, seen: Encoded, other: Passing) -> Tensor:
        """`forward` by the equations, for aligned rows: (P, D)."""
        tokens, mask = looking.tokens, looking.mask
        room = self.config.padded_to - mask.shape[1]
        if room > 0:  # as the code does it: words of zeros up to a length
            tokens, mask = F.pad(tokens, (0, 0, 0, room)), F.pad(mask, (0, room))
        message = self.message(Encoded(tokens, mask), seen, other)
        return self.pooled(self.fusion(tokens, message) if self.config.fuse else message, mask)

    def pooled(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """v* or t* (eq. 10-11): (P, L, D) to (P, D)."""
        if self.config.pooling == "attention":
            found: Tensor = self.pool(tokens, mask)
            return found
        count = mask.sum(dim=1, keepdim=True).clamp_min(self.config.padded_to)
        return masked_mean(tokens, torch.arange(mask.shape[1], device=mask.device) < count)

    def message(self, looking: Encoded, seen: Encoded, other: Passing) -> Tensor:
        """What the fragments of aligned rows are sent (eq. 3-4): (P, L, D)."""
        message = self.attention(looking, seen, other) @ seen.tokens
        relation = other.relation(message) if self.config.messages == "attention" else None
        if relation is not None:
            relation = relation.masked_fill(~looking.mask.unsqueeze(1), -torch.inf)
            message = relation.softmax(dim=2) @ message
        return l2norm(message) if self.config.twice and self.config.fuse else message

    def attention(self, looking: Encoded, seen: Encoded, other: Passing) -> Tensor:
        """How much fragments of aligned rows look at the other side's (eq. 2, 4): (P, L, S)."""
        if self.config.messages == "mean":
            even = seen.mask / seen.mask.sum(dim=1, keepdim=True)
            return even.unsqueeze(1).expand(-1, looking.mask.shape[1], -1)
        keys = other.key(seen.tokens)
        logits: Tensor = self.look(looking.tokens) @ keys.transpose(1, 2) / keys.shape[2] ** 0.5
        return logits.masked_fill(~seen.mask.unsqueeze(1), -torch.inf).softmax(dim=2)

    def gates(self, looking: Encoded, seen: Encoded, other: Passing) -> Tensor:
        """The mean gate of each fragment of aligned rows (eq. 5, 7); padding is 0: (P, L)."""
        gate = self.fusion.gate(looking.tokens, self.message(looking, seen, other))
        return gate.mean(dim=2) * looking.mask

    def products(self, own: int, others: int) -> int:
        """Multiplications of `forward` that each pair needs: `own` fragments look at `others`."""
        config, dim, heads = self.config, self.dim, self.config.heads
        attends, pools = config.messages == "attention", config.pooling == "attention"
        every = own * others if attends else 0  # else messages are the same for every item
        found = every * (others + 2 * own) if config.twice else 0
        if not config.fuse:
            level = every * (dim if heads else 1) + own * dim * heads if pools else 0
            return found + level + others * dim if attends else 0
        found += every * dim + (every * others if config.twice else 0)
        if not self.fusion.splits:
            found += own * self.fusion.linear.in_features * dim
        if pools:
            found += own * dim * (dim + heads if heads else 1)
        return found + own * dim

    def floats(self, own: int, others: int) -> int:
        """Numbers that `forward` holds at once for a pair, at most."""
        config, dim = self.config, self.dim
        table = own * others
        weights = 3 * table + (2 * own * own + 2 * table if config.twice else 0)
        heads = 3 * max(config.heads, 1)
        if config.fuse:
            rows = 4 * dim if self.fusion.splits else 4 * dim + self.fusion.linear.in_features
            return weights + own * (rows + heads)
        return weights + table + own * ((3 * dim if config.heads else 0) + heads)
