"""Mining in stripes of images: both lists in one pass, never the whole matrix.

A stripe holds every score of some images, so their lists are final at once; the lists of sentences
run along. AOQ (Chen et al., ECCV 2020, section 3.2): every item's best wrong answers in the whole
training set; wrong is what the ground truth does not pair.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.negatives import Negatives, save_negatives
from visavis.errors import DataError
from visavis.mining.ledger import Arrays, Ledger
from visavis.mining.settings import MiningConfig
from visavis.mining.sides import StripeScorer
from visavis.mining.top import RunningTop, best_columns

logger = logging.getLogger("visavis.mining")

STRIPE_BYTES = 2**28  # scores of a stripe, in one direction
ROWS = 512  # images of a stripe, at most


@dataclass(frozen=True, kw_only=True)
class Options:
    """How it is done; none of it changes what is found."""

    seconds: float = 30.0  # between two entries in the ledger
    rows: int = 0  # images of a stripe; 0: as many as fit
    progress: Callable[[int, int], None] | None = None  # told images done and images in all


@dataclass(slots=True)
class _Found:
    """Lists of the stripes since the last entry, and what runs along."""

    top: RunningTop
    pair_scores: Tensor  # (P, 2) of the pairs in the order of their images
    columns: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)

    def taken(self) -> Arrays:
        """The finished lists as arrays; they are kept no longer."""
        rows = {"columns": torch.cat(self.columns), "scores": torch.cat(self.scores)}
        self.columns, self.scores = [], []
        return {key: value.numpy() for key, value in rows.items()}

    def running(self) -> Arrays:
        """What later stripes still change."""
        state = {
            "scores": self.top.scores,
            "rows": self.top.rows,
            "pair_scores": self.pair_scores,
        }
        return {key: value.cpu().numpy() for key, value in state.items()}


def mine(
    make_scorer: Callable[[], StripeScorer],
    corpus: Corpus,
    config: MiningConfig,
    path: Path,
    about: Mapping[str, Any],
    options: Options | None = None,
) -> Negatives:
    """The hardest negatives of a corpus, written to `path`; a killed run goes on.

    Args:
        make_scorer: what scores; made only when something is left to be scored.
        corpus: images, sentences, and which pairs are no negatives.
        config: lengths of the lists.
        path: the file; what is found so far lies in a folder beside it.
        about: who mines what: another identity begins anew.
        options: stripes, ledger, progress.

    Raises:
        DataError: an item without negatives, NaN scores.
    """
    options = options or Options()
    identity = {
        **about,
        "fingerprint": corpus.fingerprint(),
        "settings": plain(config),
        "stripe": _stripe(corpus, options),
    }
    ledger = Ledger(partial_of(path), identity)
    if ledger.done:
        logger.info("%s: goes on after %d images", path, ledger.done)
    order = _run(make_scorer, corpus, config, ledger, options)
    found = _joined(ledger, order, corpus, identity)
    found.check(corpus, str(path))
    save_negatives(found, path)
    ledger.discard()
    return found


def partial_of(path: Path) -> Path:
    """The folder beside a file where its ledger lies while it is mined."""
    return path.with_name(f"{path.name}.partial")


def _stripe(corpus: Corpus, options: Options) -> int:
    fitting = max(1, STRIPE_BYTES // 4 // max(1, len(corpus.sentence_ids)))
    return options.rows or min(ROWS, fitting)


@torch.inference_mode()
def _run(
    make_scorer: Callable[[], StripeScorer],
    corpus: Corpus,
    config: MiningConfig,
    ledger: Ledger,
    options: Options,
) -> NDArray[np.int64]:
    """Score what is not in the ledger yet; which sentence each column is."""
    total = len(corpus.image_ids)
    if ledger.done == total and total:
        return ledger.running["order"]
    h, h_images = config.lengths(corpus)
    scorer = make_scorer()
    own = _Own(corpus, scorer.order)
    found = _begun(ledger, corpus, h_images)
    said = time.monotonic()
    size = _stripe(corpus, options)
    for start in range(ledger.done, total, size):
        stop = min(start + size, total)
        _stripe_done(scorer, own, found, (start, stop), h)
        if options.progress is not None:
            options.progress(stop, total)
        if stop == total or time.monotonic() - said >= options.seconds:
            ledger.keep(stop, found.taken(), {**found.running(), "order": scorer.order})
            said = time.monotonic()
    return scorer.order


def _begun(ledger: Ledger, corpus: Corpus, h_images: int) -> _Found:
    top = RunningTop(len(corpus.sentence_ids), h_images)
    found = _Found(top, torch.full((len(corpus.pairs), 2), -torch.inf))
    if ledger.done:
        top.scores = torch.from_numpy(ledger.running["scores"].copy())
        top.rows = torch.from_numpy(ledger.running["rows"].copy())
        found.pair_scores = torch.from_numpy(ledger.running["pair_scores"].copy())
    return found


class _Own:
    """The pairs of the ground truth, image after image, as places in stripes."""

    def __init__(self, corpus: Corpus, order: NDArray[np.int64]) -> None:
        column = np.empty(len(order), dtype=np.int64)
        column[order] = np.arange(len(order))
        self.sorted = np.argsort(corpus.pairs[:, 0], kind="stable")
        self.images = corpus.pairs[self.sorted, 0]
        self.columns = column[corpus.pairs[self.sorted, 1]]

    def of(self, start: int, stop: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        """Pairs of some images: which they are, their rows in the stripe and their columns."""
        low, high = np.searchsorted(self.images, [start, stop])
        rows = torch.from_numpy(self.images[low:high] - start)
        return self.sorted[low:high], rows, torch.from_numpy(self.columns[low:high])


def _stripe_done(
    scorer: StripeScorer, own: _Own, found: _Found, span: tuple[int, int], h: int
) -> None:
    scores = scorer.score(*span)
    pairs, rows, columns = own.of(*span)
    places = torch.from_numpy(pairs)
    rows, columns = rows.to(scores.i2t.device), columns.to(scores.i2t.device)
    both = (scores.i2t[rows, columns], scores.t2i[rows, columns])
    found.pair_scores[places] = torch.stack(both, dim=1).cpu()
    for matrix in {id(m): m for m in (scores.i2t, scores.t2i)}.values():
        matrix[rows, columns] = -torch.inf  # nobody's negatives
    best, best_places = best_columns(scores.i2t, h)
    found.scores.append(best.cpu())
    found.columns.append(best_places.cpu())
    if found.top.scores.device != scores.t2i.device:
        found.top.scores = found.top.scores.to(scores.t2i.device)
        found.top.rows = found.top.rows.to(scores.t2i.device)
    found.top.see(scores.t2i, span[0])
    if torch.isnan(best[:, 0]).any() or torch.isnan(found.top.scores[:, 0]).any():
        raise DataError("the miner's scores hold NaN; mine with another model")  # NaN comes first


def _joined(
    ledger: Ledger, order: NDArray[np.int64], corpus: Corpus, identity: Mapping[str, Any]
) -> Negatives:
    """The whole lists, sentences named as the corpus numbers them."""
    if not ledger.done:
        raise DataError(f"{corpus.name}: no images to mine in")
    rows, running = ledger.rows(), ledger.running
    columns = rows["columns"]
    sentences = np.where(columns < 0, -1, order[columns]).astype(np.int32)
    images = np.empty_like(running["rows"])
    image_scores = np.empty_like(running["scores"])
    images[order], image_scores[order] = running["rows"], running["scores"]
    return Negatives(
        sentences=sentences,
        images=images,
        sentence_scores=rows["scores"],
        image_scores=image_scores,
        pair_scores=running["pair_scores"],
        about={key: value for key, value in identity.items() if key != "stripe"},
    )
