"""Re-ranking for one query: where does it stand among the sentences that a picture would choose?

MTFN-RR ranks all queries of a test set at once (`visavis.rerank.reciprocal`). Here there is one
query, and what it stands among are a few sentences of the index's own.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.rerank.reciprocal import K, t2i_candidates
from visavis.scoring.matrix import score_matrix
from visavis.search.view import View
from visavis.types import Encoded

__all__ = ["K", "reorder"]


@torch.inference_mode()
def reorder(view: View, places: NDArray[np.int64], sentence: Encoded) -> Tensor:
    """A new order of pictures that stand best first: (N,) positions; beyond K all stay.

    Raises:
        DataError: the index has no sentences.
    """
    if view.probe is None:
        raise DataError(
            "re-ranking compares a query with sentences and this index has none; "
            "build it with a corpus or with a file of sentences"
        )
    count = min(K, len(places))
    sentences = Encoded.join([sentence, view.probe])
    scores = score_matrix(view.engine.main.matcher, view.encoded(places[:count]), sentences)
    first = t2i_candidates(scores, count).reordered().items[0].cpu()
    return torch.cat([first, torch.arange(count, len(places))])
