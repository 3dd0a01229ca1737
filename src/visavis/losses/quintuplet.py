"""Offline hard negatives: triplets, quintuplets, and penalties that adapt to how hard they are.

Chen, Deng, Luo: Adaptive Offline Quintuplet Loss for Image-Text Matching, ECCV 2020,
https://arxiv.org/abs/2003.03669, eq. 3 (`off_triplet`), 4 (`off_quintuplet`) and 5
(`adaptive_quintuplet`). For a pair (i, t) of the batch the negatives t_on and i_on are those of the
batch, t_off and i_off were mined from the whole training set; i~ is an image of t_off and t~ a
sentence of i_off. Each anchor adds

    w [gamma_1 - S(i, t) + S(i, t_on)]+       w = 1, or in eq. 5 beta - (S(i, t_off) - S(i, t_on)) / alpha
    + [gamma_2 - S(i, t) + S(i, t_off)]+
    + [gamma_2 - S(i, t) + S(i_off, t_off)]+  eq. 4 and 5; for the anchor t it is S(i~, t~)

and the anchor t the same with the sides exchanged. gamma_1 is the margin of the objective, gamma_2
that of `OfflineConfig`. As in `visavis.losses.hinge`, what ranks sentences is read from `i2t`, what
ranks images from `t2i`, and values are sums over the batch.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from visavis.types import Scores

QUINTUPLETS = ("off_quintuplet", "adaptive_quintuplet")


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """How mined negatives take part in the loss."""

    loss: Literal["none", "off_triplet", "off_quintuplet", "adaptive_quintuplet"] = "none"
    margin: float = 0.0  # gamma_2; gamma_1 is the margin of the objective
    alpha: float = 0.3  # eq. 5
    beta: float = 1.5  # eq. 5
    online: bool = True  # False: no negatives of the batch at all (table 3, OnlyOffline)
    derived: Literal["offline", "online"] = "offline"
    # online: the two derived pairs are of the batch's negatives (table 3, OnlineQuin)
    adapt: Literal["offline", "positive"] = "offline"
    # positive: the weights of eq. 5 see S(i, t) for S(i, t_off) (table 3, w/o OfflineAdap)
    clamp: bool = False  # weights of eq. 5 are at least 0
    detach: bool = False  # weights of eq. 5 have no gradient; eq. 6 wants one
    variant: Literal["paper", "code"] = "paper"
    # code: three encoder passes; with sum_hinge, weights of columns in both directions

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        if self.loss == "adaptive_quintuplet" and not self.online:
            raise ValueError("adaptive_quintuplet weighs the batch's negatives; leave online true")

    @property
    def used(self) -> bool:
        """Whether mined negatives take part."""
        return self.loss != "none"

    @property
    def adaptive(self) -> bool:
        """Whether penalties adapt (eq. 5)."""
        return self.loss == "adaptive_quintuplet"

    @property
    def reads_derived(self) -> bool:
        """Whether i~ and t~ are read, too."""
        return self.loss in QUINTUPLETS and self.derived == "offline"


@dataclass(frozen=True, slots=True)
class OfflineScores:
    """Scores of P pairs' mined negatives."""

    to_text: Tensor  # (P,) S(i, t_off), as sentences are ranked
    to_image: Tensor  # (P,) S(i_off, t), as images are ranked
    derived_text: Tensor | None = None  # (P,) S(i_off, t_off), as sentences are ranked
    derived_image: Tensor | None = None  # (P,) S(i~, t~), as images are ranked


def offline_hinges(scores: Scores, offline: OfflineScores, margin: float = 0.0) -> Tensor:
    """The terms of gamma_2 in eq. 3, or in eq. 4 and 5 when derived pairs are given.

    Args:
        scores: (P, P), pairs on the diagonal.
        offline: of the mined negatives; a pair without a derived one has -inf there.
        margin: gamma_2.

    >>> scores = Scores.shared(torch.tensor([[0.9, 0.8], [0.1, 0.5]]))
    >>> mined = OfflineScores(torch.tensor([0.7, 0.6]), torch.tensor([1.0, 0.2]))
    >>> round(offline_hinges(scores, mined).item(), 4)
    0.2
    """
    to_text, to_image = scores.i2t.diagonal(), scores.t2i.diagonal()  # (P,)
    total = (margin - to_text + offline.to_text).clamp_min(0).sum()
    total = total + (margin - to_image + offline.to_image).clamp_min(0).sum()
    if offline.derived_text is not None:
        total = total + (margin - to_text + offline.derived_text).clamp_min(0).sum()
    if offline.derived_image is not None:
        total = total + (margin - to_image + offline.derived_image).clamp_min(0).sum()
    return total


def adaptive_hinge(
    scores: Scores,
    positives: Tensor,
    offline: OfflineScores,
    margin: float = 0.2,
    config: OfflineConfig | None = None,
    *,
    hardest: bool = True,
) -> Tensor:
    """The terms of gamma_1 in eq. 5: hinges of the batch's negatives, weighed.

    Args:
        scores: (P, P), pairs on the diagonal.
        positives: (P, P) bool, True on the diagonal at least.
        offline: of the mined negatives.
        margin: gamma_1.
        config: alpha, beta and how weights are made; the defaults without one.
        hardest: the hardest negative of an anchor; False: all of them, with one weight.
    """
    config = config or OfflineConfig()
    rivals = _rivals(scores.i2t, positives), _rivals(scores.t2i.T, positives.T)
    pairs = scores.i2t.diagonal(), scores.t2i.diagonal()
    mined = pairs if config.adapt == "positive" else (offline.to_text, offline.to_image)
    total = scores.i2t.new_zeros(())
    for side, (rival, pair, off) in enumerate(zip(rivals, pairs, mined, strict=True)):
        best = rival.max(dim=1).values  # (P,)
        known = torch.isfinite(best)
        best = best.masked_fill(~known, 0.0)
        weights = _weights(off, best, config)  # (P,)
        if hardest:
            hinges = (margin - pair + best).clamp_min(0) * known
        else:
            hinges = (margin - pair[:, None] + rival).clamp_min(0)  # (P, P), anchors in rows
            # The published code lets the weights of image anchors run along the sentences.
            by_column = config.variant == "code" and side == 0
            weights = weights[None] if by_column else weights[:, None]
        total = total + (weights * hinges).sum()
    return total


def _weights(off: Tensor, online: Tensor, config: OfflineConfig) -> Tensor:
    """The factors of eq. 5, beta - (S_off - S_on) / alpha: (P,)."""
    weights = config.beta - (off - online) / config.alpha
    if config.clamp:
        weights = weights.clamp_min(0)
    return weights.detach() if config.detach else weights


def derived_online(scores: Scores, positives: Tensor) -> tuple[Tensor, Tensor]:
    """S(i_on, t_on) and S(i~_on, t~_on) of each pair, (P,) each: table 3, OnlineQuin.

    -inf where an anchor has no negative or where the two belong together.
    """
    sentences, images = _rivals(scores.i2t, positives), _rivals(scores.t2i.T, positives.T)
    texts, pictures = sentences.argmax(dim=1), images.argmax(dim=1)  # t_on, i_on as places
    missing = ~torch.isfinite(sentences.amax(dim=1)) | ~torch.isfinite(images.amax(dim=1))
    first = scores.i2t[pictures, texts].masked_fill(
        missing | positives[pictures, texts], -torch.inf
    )
    second = scores.t2i[texts, pictures].masked_fill(
        missing | positives[texts, pictures], -torch.inf
    )
    return first, second


def _rivals(scores: Tensor, positives: Tensor) -> Tensor:
    return scores.masked_fill(positives, -torch.inf)
