"""Mining: both lists in one pass over tiles of scores, never the whole matrix.

AOQ (Chen et al., ECCV 2020, section 3.2): every item's best wrong answers in the whole training
set; wrong is what the ground truth does not pair. The work is the scoring engine's
(`visavis.scoring.collect`); here are the ground truth, the file and what it says of itself.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.negatives import Negatives, save_negatives
from visavis.errors import DataError
from visavis.mining.settings import MiningConfig
from visavis.scoring.collect import Job, TopK, Wanted, collect
from visavis.scoring.stream import Tiles

logger = logging.getLogger("visavis.mining")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How it is done; none of it changes what is found."""

    seconds: float = 30.0  # between two entries in the ledger
    progress: Callable[[int, int], None] | None = None  # told images done and images in all


def mine(
    tiles: Tiles,
    corpus: Corpus,
    config: MiningConfig,
    path: Path,
    about: Mapping[str, Any],
    options: Options | None = None,
) -> Negatives:
    """The hardest negatives of a corpus, written to `path`; a killed run goes on.

    Args:
        tiles: scores of the corpus's images and sentences.
        corpus: images, sentences, and which pairs are no negatives.
        config: lengths of the lists.
        path: the file; what is found so far lies in a folder beside it.
        about: who mines what: another identity begins anew.
        options: ledger, progress.

    Raises:
        DataError: an item without negatives, NaN scores.
    """
    options = options or Options()
    if not len(corpus.image_ids):
        raise DataError(f"{corpus.name}: no images to mine in")
    identity = {**about, "fingerprint": corpus.fingerprint(), "settings": plain(config)}
    h, h_images = config.lengths(corpus)
    wanted = Wanted(sentences=h, images=h_images, pairs=corpus.pairs, without_pairs=True)
    folder = partial_of(path)
    if folder.exists():
        logger.info("%s: goes on where it was", path)
    job = Job(folder=folder, identity=identity, seconds=options.seconds, progress=options.progress)
    found = _negatives(collect(tiles, wanted, job), corpus, identity)
    found.check(corpus, str(path))
    save_negatives(found, path)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def partial_of(path: Path) -> Path:
    """The folder beside a file where its ledger lies while it is mined."""
    return path.with_name(f"{path.name}.partial")


def _negatives(found: TopK, corpus: Corpus, identity: Mapping[str, Any]) -> Negatives:
    if found.pair_scores is None:
        raise TypeError("lists without the scores of pairs")
    _, numbers = np.unique(corpus.pairs, axis=0, return_inverse=True)
    return Negatives(
        sentences=found.sentences.numpy(),
        images=found.images.numpy(),
        sentence_scores=found.sentence_scores.numpy(),
        image_scores=found.image_scores.numpy(),
        pair_scores=found.pair_scores.numpy()[numbers.reshape(-1)],
        about=dict(identity),
    )
