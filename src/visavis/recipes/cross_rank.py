"""The distribution of cross-retrieval ranks of one or more models on a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavis.data.corpus import Corpus
from visavis.evaluation.report import Grid
from visavis.explain.cross_rank import INTERVALS, CrossRanks, cross_ranks, draw_cross_ranks
from visavis.explain.saved import save_figure
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.engine import Engine, scorer_of
from visavis.recipes.measure import check_identity


@dataclass(frozen=True, slots=True, eq=False)
class CrossRanked:
    """What was found for each model."""

    corpus: Corpus
    names: tuple[str, ...]
    ranks: tuple[CrossRanks, ...]


def measure_cross_ranks(
    models: Sequence[tuple[str, Pretrained]],
    material: Material,
    *,
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossRanked:
    """Score a corpus with each model and rank its pairs.

    Args:
        models: names and models.
        material: the part of a corpus that is measured, linked to its features.
        scratch: a folder for matrices too large for memory.
        progress: told images done and images in all, over every model.

    Raises:
        DataError: features of another kind, scores that are not finite.
    """
    corpus, features = material.corpus, material.features
    for _, pretrained in models:
        check_identity(pretrained, features)
    total, done = len(models) * len(corpus.image_ids), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    found = []
    for _, pretrained in models:
        engine = Engine(scratch=scratch, advance=advance)
        scores = scorer_of(pretrained, features, engine=engine)(corpus)
        found.append(cross_ranks(scores, corpus.pairs))
    return CrossRanked(corpus, tuple(name for name, _ in models), tuple(found))


def _title(found: CrossRanked) -> str:
    return f"Cross-retrieval ranks of pairs, {found.corpus.name} {'+'.join(found.corpus.splits)}"


def _note(found: CrossRanked) -> str:
    first = found.ranks[0]
    each = first.each
    return (
        f"{len(first.pairs):,} pairs; max({each:g} r_i - {each - 1:g}, r_t): r_i is a pair's rank "
        "among the images for its sentence, r_t among the sentences for its image; ties lose"
    )


def cross_rank_grid(found: CrossRanked) -> Grid:
    """A row for each model, shares of the pairs in per cent."""
    rows = tuple(
        (
            name,
            *(f"{100 * count / len(one.pairs):.1f}" for count in one.counts),
            f"{np.median(one.cross):g}",
        )
        for name, one in zip(found.names, found.ranks, strict=True)
    )
    notes = ("shares of the pairs, %", _note(found))
    return Grid(_title(found), ("run", *INTERVALS, "median"), rows, notes)


def cross_rank_values(found: CrossRanked) -> dict[str, object]:
    """What was found as JSON values."""
    corpus = found.corpus
    return {
        "format": "visavis-cross-ranks",
        "version": 1,
        "corpus": corpus.name,
        "splits": list(corpus.splits),
        "fingerprint": corpus.fingerprint(),
        "sentences_per_image": found.ranks[0].each,
        "intervals": list(INTERVALS),
        "models": [
            {
                "model": name,
                "counts": list(one.counts),
                "mean": float(one.cross.mean()),
                "median": float(np.median(one.cross)),
                "pairs": [
                    [corpus.image_ids[i], corpus.sentence_ids[j], int(images), int(sentences)]
                    for (i, j), images, sentences in zip(
                        one.pairs, one.among_images, one.among_sentences, strict=True
                    )
                ],
            }
            for name, one in zip(found.names, found.ranks, strict=True)
        ],
    }


def write_cross_ranks(found: CrossRanked, path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        MissingExtraError: a PNG without matplotlib.
        StorageError: the file cannot be written.
    """
    save_figure(
        path,
        lambda: cross_rank_values(found),
        lambda: draw_cross_ranks(found.ranks, found.names, (_title(found), _note(found))),
    )
