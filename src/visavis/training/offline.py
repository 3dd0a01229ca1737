"""Mined negatives in a training step: items behind the batch's own, scored in aligned pairs.

A source may put behind the P images and sentences of a batch P mined ones (i_off, t_off), and P
more (an image of t_off, a sentence of i_off). The trainer moves and thins them out like the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.losses import Loss
from visavis.losses.quintuplet import (
    QUINTUPLETS,
    OfflineConfig,
    OfflineScores,
    adaptive_hinge,
    derived_online,
    offline_hinges,
)
from visavis.training.config import ObjectiveConfig
from visavis.types import Encoded, Matcher, Scores


def offline_scores(
    matcher: Matcher, images: Encoded, sentences: Encoded, pairs: int
) -> OfflineScores:
    """Scores of the mined items behind the first `pairs` of each side.

    Raises:
        DataError: there are none.
    """
    groups = len(images) // pairs
    if groups < 2:
        raise DataError(
            "objective.offline: the batch has no mined negatives; give the stage a mine"
        )
    own, off = slice(0, pairs), slice(pairs, 2 * pairs)
    to_text = matcher.score_pairs(images.select(own), sentences.select(off)).i2t
    to_image = matcher.score_pairs(images.select(off), sentences.select(own)).t2i
    if groups == 2:
        return OfflineScores(to_text, to_image)
    far = slice(2 * pairs, 3 * pairs)
    return OfflineScores(
        to_text,
        to_image,
        matcher.score_pairs(images.select(off), sentences.select(off)).i2t,
        matcher.score_pairs(images.select(far), sentences.select(far)).t2i,
    )


def ranking_terms(
    scores: Scores,
    positives: Tensor,
    offline: OfflineScores,
    config: ObjectiveConfig,
    loss: Loss,
) -> dict[str, Tensor]:
    """`ranking`, of the batch's negatives, and `offline`, of the mined ones (eq. 3, 4 or 5)."""
    settings = config.offline
    if settings.adaptive:
        hardest = config.loss == "hardest_hinge"
        ranking = adaptive_hinge(
            scores, positives, offline, config.margin, settings, hardest=hardest
        )
    elif settings.online:
        ranking = loss(scores, positives, config.margin)
    else:
        ranking = torch.zeros_like(scores.i2t[0, 0])
    offline = _with_derived(scores, positives, offline, settings)
    return {"ranking": ranking, "offline": offline_hinges(scores, offline, settings.margin)}


def _with_derived(
    scores: Scores, positives: Tensor, offline: OfflineScores, settings: OfflineConfig
) -> OfflineScores:
    if settings.loss in QUINTUPLETS and settings.derived == "online":
        return OfflineScores(offline.to_text, offline.to_image, *derived_online(scores, positives))
    return offline
