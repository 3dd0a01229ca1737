"""VSE++, VSRN, SAEM: one vector each side, in double precision as the public code keeps them.

VSE++ and VSRN multiply one image after the other with all sentences; SAEM asks SciPy for the
cosine distances of all.
"""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.traffic import told
from scipy.spatial.distance import cdist

from visavis.types import Encoded, Scores


def by_image(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """Inner products, image by image."""
    left, right = (side.tokens[:, 0].double() for side in (images, sentences))
    return Scores.shared(torch.stack([right @ vector for vector in left]))


def distances(model: Any, images: Encoded, sentences: Encoded) -> Scores:  # noqa: ANN401
    """One less the cosine distance."""
    left, right = (side.tokens[:, 0].double().numpy() for side in (images, sentences))
    told(2 * left.size * len(right), left.nbytes + right.nbytes + 8 * len(left) * len(right))
    return Scores.shared(torch.from_numpy(1 - cdist(left, right, "cosine")))
