"""Trained models through the scoring engine: scores or ranks of a linked corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.metrics.ranks import Ranks
from visavis.models.identity import identity_of
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import pretrained_texts
from visavis.scoring.collect import Job, Wanted
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.scoring.matrix import BLOCK, Block, score_matrix
from visavis.scoring.meter import Meter
from visavis.scoring.sides import (
    Held,
    Read,
    Side,
    held_sentences,
    read_images,
    read_sentences,
)
from visavis.scoring.top_k import top_k
from visavis.types import Encoded, Matcher, Scores

HELD_BYTES = 2**32  # encoded items of a side that are kept in memory; of more, tiles encode anew


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """How a corpus is scored; the figures depend on the precision alone."""

    block: Block = BLOCK
    scratch: Path | None = None  # a folder for matrices too large for memory
    ledgers: Path | None = None  # a folder where a killed evaluation goes on; None: nowhere
    advance: Callable[[int], None] | None = None  # told how many images have been scored

    def told(self, images: int) -> None:
        """Say that some more images have been scored."""
        if self.advance is not None:
            self.advance(images)


def scorer_of(
    pretrained: Pretrained,
    features: Features,
    *,
    engine: Engine | None = None,
    meter: Meter | None = None,
) -> Callable[[Corpus], Scores]:
    """Scores of a linked corpus by a model: every image with every sentence.

    Args:
        pretrained: put in evaluation mode while it scores.
        features: of the same identity that the model was trained on.
        engine: sizes, precision, places.
        meter: counts what it takes.
    """
    engine = engine or Engine()
    meter = meter or Meter(engine.block)

    def scores(corpus: Corpus) -> Scores:
        rows = _rows(corpus)
        with _evaluating(pretrained) as (model, device):
            with meter.encoding():
                images = encode_images(
                    model, lambda part: features.read(rows[part]), len(rows), device=device
                )
                texts = pretrained_texts(pretrained, corpus.sentence_texts)
                sentences = encode_sentences(model, texts, device=device)
            with meter.scoring(len(images) * len(sentences)):
                return score_matrix(
                    model,
                    images,
                    sentences,
                    block=engine.block,
                    folder=engine.scratch,
                    advance=engine.advance,
                )

    return scores


def ranker_of(
    pretrained: Pretrained,
    features: Features,
    *,
    engine: Engine | None = None,
    meter: Meter | None = None,
) -> Callable[[Corpus], Ranks]:
    """Ranks of all queries of a linked corpus by a model, without a score matrix.

    Arguments as for `scorer_of`.
    """
    engine = engine or Engine()
    meter = meter or Meter(engine.block)

    def found(corpus: Corpus) -> Ranks:
        with _evaluating(pretrained) as (model, device):
            with meter.encoding():
                images, sentences = _sides(pretrained, features, corpus, device)
            for side in (images, sentences):
                _metered(side, meter)
            done = 0

            def advance(images: int, _: int) -> None:
                nonlocal done
                engine.told(images - done)
                done = images

            job = Job(progress=advance)
            if engine.ledgers is not None:
                folder = engine.ledgers / corpus.fingerprint()
                job = replace(job, folder=folder, identity=_identity(pretrained, features))
            wanted = Wanted(sentences=0, images=0, pairs=corpus.pairs, ranks=True)
            with meter.scoring(len(images.order) * len(sentences.order)):
                ranks = top_k(model, images, sentences, wanted, block=engine.block, job=job).ranks
        if ranks is None:
            raise TypeError("ranks were asked for")
        return ranks

    return found


@contextmanager
def _evaluating(pretrained: Pretrained) -> Iterator[tuple[Matcher, torch.device]]:
    """The model in evaluation mode, and where it is: training may have moved it since."""
    model = pretrained.model
    if not isinstance(model, Matcher):
        raise TypeError("a matcher is needed")
    training = model.training
    model.eval()
    try:
        yield model, next(model.parameters()).device
    finally:
        model.train(training)


def _rows(corpus: Corpus) -> NDArray[np.int64]:
    if corpus.rows is None:
        raise TypeError("a linked corpus is needed")
    return corpus.rows


def _sides(
    pretrained: Pretrained, features: Features, corpus: Corpus, device: torch.device
) -> tuple[Side, Side]:
    """Images and sentences: encoded now where memory holds them, else whenever needed."""
    model, rows = cast("Matcher", pretrained.model), _rows(corpus)
    texts = pretrained_texts(pretrained, corpus.sentence_texts)
    images: Side = read_images(
        model, lambda items: features.read(rows[items]), len(rows), device=device
    )
    sentences: Side = read_sentences(model, texts, device=device)
    if images.item_bytes * len(rows) <= HELD_BYTES:
        images = Held(images.at(slice(0, len(rows))))
    if sentences.item_bytes * len(texts) <= HELD_BYTES:
        sentences = held_sentences(model, texts, device=device)
    return images, sentences


def _metered(side: Side, meter: Meter) -> None:
    """Count what a side encodes later."""
    if isinstance(side, Read):
        encode = side.encode

        def counted(items: NDArray[np.int64]) -> Encoded:
            with meter.encoding():
                return encode(items)

        side.encode = counted


def _identity(pretrained: Pretrained, features: Features) -> dict[str, object]:
    return {"model": identity_of(pretrained), "features": features.identity.digest}
