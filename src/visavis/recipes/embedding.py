"""Fused vectors of one model, or of two side by side, on pairs of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.texts import Texts
from visavis.errors import DataError, RecipeError
from visavis.evaluation.report import Grid
from visavis.explain.attention import evaluating
from visavis.explain.charts import check_plotting
from visavis.explain.embedding import Embedding, Fusing, draw_embeddings, embed, is_fusing
from visavis.explain.leave_out import device_of, finite
from visavis.explain.saved import save_figure
from visavis.explain.true_and_false import TrueAndFalse, draw_pairs
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, pretrained_texts
from visavis.recipes.measure import check_identity

AT_ONCE = 64  # pairs
DIGITS = 4  # of points in a file


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Which pairs are looked at, and how."""

    pairs: int = 1000  # true ones, and as many false ones
    folds: int = 5  # of the accuracies
    perplexity: float = 30.0  # of t-SNE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 10 or self.folds < 2 or self.perplexity <= 0:
            raise ValueError(
                f"{self.pairs} pairs, {self.folds} folds, perplexity {self.perplexity}: expected "
                "10 pairs and 2 folds at least, and a perplexity above 0"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A model with its name in reports and the loss that it was trained with, where it is known."""

    name: str
    pretrained: Pretrained
    loss: str = ""

    @property
    def title(self) -> str:
        """Name and loss."""
        return f"{self.name} ({self.loss})" if self.loss else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What was found for each model, on the same pairs."""

    config: EmbeddingConfig
    corpus: Corpus
    pairs: TrueAndFalse
    models: tuple[Named, ...]
    embeddings: tuple[Embedding, ...]


def measure_embedding(
    models: Sequence[Named],
    material: Material,
    config: EmbeddingConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Part and lay out the fused vectors of one or more models.

    Args:
        models: each `Fusing`.
        material: the part of a corpus that is looked at, linked to its features.
        config: pairs, folds, t-SNE.
        progress: told pairs done and pairs in all, over every model.

    Raises:
        DataError: a model that makes no vector of a pair, features of another kind, or too few
            pairs.
        MissingExtraError: scikit-learn or matplotlib is not installed.
    """
    check_plotting("sklearn")
    _check_models(models, material)
    pairs = draw_pairs(material.corpus.pairs, config.pairs, seed=config.seed, folds=config.folds)
    if config.perplexity >= len(pairs.rows):
        raise RecipeError(
            f"perplexity {config.perplexity:g} needs more pairs than {len(pairs.rows)}; lower it"
        )
    found = []
    for number, model in enumerate(models):

        def told(done: int, before: int = number * len(pairs.rows)) -> None:
            if progress is not None:
                progress(before + done, len(models) * len(pairs.rows))

        vectors, scores = _vectors(model.pretrained, material, pairs.rows, told)
        found.append(embed(vectors, scores, pairs, perplexity=config.perplexity, seed=config.seed))
    return Embedded(config, material.corpus, pairs, tuple(models), tuple(found))


def _check_models(models: Sequence[Named], material: Material) -> None:
    for model in models:
        if not is_fusing(model.pretrained.model):
            raise DataError(
                f"{model.name} ({model.pretrained.name}) makes no vector of a pair, so there is "
                "nothing to lay out; ask a model that fuses pairs (one with `fusion_vectors`)"
            )
        check_identity(model.pretrained, material.features)


@torch.inference_mode()
def _vectors(
    pretrained: Pretrained,
    material: Material,
    rows: NDArray[np.int64],
    told: Callable[[int], None],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fused vectors (2 P, F) and scores (2 P,) of pairs of a corpus."""
    texts: Texts = pretrained_texts(pretrained, material.corpus.sentence_texts)
    linked = material.corpus.rows
    if linked is None:
        raise TypeError("a linked corpus is needed")
    vectors, scores = [], []
    with evaluating(pretrained.model) as model:
        device = device_of(model)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            images = material.features.read(linked[part[:, 0]]).to(device)
            sentences = texts.read(part[:, 1]).to(device)
            vectors.append(finite(cast("Fusing", model).fusion_vectors(images, sentences)))
            encoded = model.encode_images(images), model.encode_sentences(sentences)
            scores.append(finite(model.score_pairs(*encoded).t2i))
            told(start + len(part))
    return np.concatenate(vectors), np.concatenate(scores)


def _subject(found: Embedded) -> str:
    return f"{found.corpus.name} {'+'.join(found.corpus.splits)}"


def _note(found: Embedded) -> str:
    half = len(found.pairs.rows) // 2
    return (
        f"{half:,} pairs that belong together and {half:,} that do not, of the same images and "
        f"sentences. Accuracy of linear SVMs on pairs of images and sentences they did not see "
        f"({found.config.folds} folds); chance is 50 %. t-SNE (perplexity "
        f"{found.config.perplexity:g}) places all pairs at once without knowing which are which."
    )


def embedding_grid(found: Embedded) -> Grid:
    """A row for each model."""
    rows = tuple(
        (
            model.title,
            f"{one.dimensions:,}",
            *(f"{100 * part.mean:.1f}" for part in (one.full, one.plane, one.score)),
        )
        for model, one in zip(found.models, found.embeddings, strict=True)
    )
    header = ("run", "dimensions", "accuracy %", "in the plane %", "by the score %")
    title = f"fused vectors of pairs of {_subject(found)}"
    return Grid(title, header, rows, (_note(found),))


def embedding_values(found: Embedded) -> dict[str, object]:
    """What was found as JSON values."""
    corpus = found.corpus
    return {
        "format": "visavis-embedding",
        "version": 1,
        "corpus": corpus.name,
        "splits": list(corpus.splits),
        "fingerprint": corpus.fingerprint(),
        "settings": plain(found.config),
        "pairs": [
            [corpus.image_ids[i], corpus.sentence_ids[j], bool(true)]
            for (i, j), true in zip(found.pairs.rows, found.pairs.true, strict=True)
        ],
        "models": [
            {
                "model": model.name,
                "loss": model.loss or None,
                "dimensions": one.dimensions,
                "accuracy": plain(one.full),
                "accuracy_in_the_plane": plain(one.plane),
                "accuracy_by_the_score": plain(one.score),
                "boundary": list(one.boundary),
                "points": np.round(one.points.astype(np.float64), DIGITS).tolist(),
            }
            for model, one in zip(found.models, found.embeddings, strict=True)
        ],
    }


def write_embedding(found: Embedded, path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        StorageError: the file cannot be written.
    """
    titles = [model.title for model in found.models]
    notes = (f"Fused vectors of pairs, {_subject(found)}", _note(found))
    save_figure(
        path,
        lambda: embedding_values(found),
        lambda: draw_embeddings(found.embeddings, titles, found.pairs.true, notes),
    )
