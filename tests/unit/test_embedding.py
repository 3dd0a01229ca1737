"""Fused vectors: those of models, and how well true and false pairs can be parted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import REGION_DIM, VARIANTS, VOCAB, images, sentences, tiny_model
from visavis.errors import DataError
from visavis.explain.embedding import draw_embeddings, embed, is_fusing
from visavis.explain.true_and_false import TrueAndFalse, draw_pairs
from visavis.models.camp import Camp, CampConfig
from visavis.types import ImageBatch, SentenceBatch

MTFN = [name for name in VARIANTS if name.startswith("mtfn")]
CAMP = [name for name in VARIANTS if name.startswith("camp")]
ROWS = torch.arange(6)


def last_linear(model: nn.Module) -> nn.Linear:
    out = getattr(model.fusion, "out", None)
    found = out if out is not None else model.fusion.rest[-1]
    assert isinstance(found, nn.Linear)
    return found


@pytest.mark.parametrize("variant", MTFN)
def test_the_last_linear_map_of_fused_vectors_is_the_score(variant: str) -> None:
    model = tiny_model(variant)
    left, right = images(), sentences().select(ROWS)
    with torch.inference_mode():
        vectors = model.fusion_vectors(left, right)
        encoded = model.encode_images(left), model.encode_sentences(right)
        scores = model.score_pairs(*encoded).i2t
        torch.testing.assert_close(last_linear(model)(vectors).squeeze(1), scores)
    assert vectors.shape[1] == last_linear(model).in_features


@pytest.mark.parametrize("variant", CAMP)
def test_the_perceptron_of_fused_vectors_is_the_score(variant: str) -> None:
    model = tiny_model(variant)
    left, right = images(), sentences().select(ROWS)
    with torch.inference_mode():
        vectors = model.fusion_vectors(left, right)
        encoded = model.encode_images(left), model.encode_sentences(right)
        scores = model.score_pairs(*encoded).i2t
        torch.testing.assert_close(model.mlp(vectors).squeeze(1), scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", [*MTFN, *CAMP])
def test_fused_vectors_do_not_depend_on_padding(variant: str) -> None:
    model = tiny_model(variant)
    left, right = images(), sentences().select(ROWS)
    wide = nn.functional.pad
    padded = (
        ImageBatch(wide(left.regions, (0, 0, 0, 2), value=7.0), wide(left.mask, (0, 2))),
        SentenceBatch(wide(right.ids, (0, 3), value=5), wide(right.mask, (0, 3))),
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            model.fusion_vectors(*padded), model.fusion_vectors(left, right), atol=1e-5, rtol=1e-4
        )


def test_only_models_that_fuse_pairs_have_such_vectors() -> None:
    fusing = {name for name, (model, _) in VARIANTS.items() if model in ("mtfn", "camp")}
    assert {name for name in VARIANTS if is_fusing(tiny_model(name))} == fusing


def test_a_model_without_messages_fuses_nothing() -> None:
    config = CampConfig(
        region_dim=REGION_DIM, vocab_size=VOCAB, dim=8, messages="none", fuse=False, match="cosine"
    )
    base = Camp(config)
    with pytest.raises(DataError, match="fuses nothing"):
        base.fusion_vectors(images(), sentences().select(ROWS))


def drawn(images: int = 40) -> TrueAndFalse:
    index = np.arange(2 * images)
    return draw_pairs(np.stack([index // 2, index], axis=1), 2 * images, seed=0, folds=5)


def test_pairs_that_lie_apart_are_parted_and_others_are_not() -> None:
    pairs, generator = drawn(), np.random.default_rng(0)
    noise = generator.normal(size=(len(pairs.rows), 8)).astype(np.float32)
    apart = noise.copy()
    apart[:, 0] += np.where(pairs.true, 6, -6)
    scores = apart[:, 0]
    found = embed(apart, scores, pairs, perplexity=10)
    assert min(found.full.mean, found.plane.mean, found.score.mean) > 0.98
    a, b, c = found.boundary
    sides = found.points @ np.array([a, b]) + c > 0
    assert (sides == pairs.true).mean() > 0.98
    mixed = embed(noise, noise[:, 0], pairs, perplexity=10)
    assert 0.3 < mixed.full.mean < 0.65
    assert len(mixed.full.folds) == 5


def test_an_accuracy_is_of_pairs_that_were_not_learned_from() -> None:
    """More columns than pairs: a plane parts what it has seen perfectly, and nothing else."""
    pairs = drawn(30)
    noise = np.random.default_rng(1).normal(size=(len(pairs.rows), 400)).astype(np.float32)
    found = embed(noise, noise[:, 0], pairs, perplexity=5)
    assert 0.3 < found.full.mean < 0.7


def test_the_same_seed_gives_the_same_points() -> None:
    pairs = drawn(20)
    vectors = np.random.default_rng(2).normal(size=(len(pairs.rows), 5)).astype(np.float32)
    one, two = (embed(vectors, vectors[:, 0], pairs, perplexity=5, seed=3) for _ in range(2))
    assert np.array_equal(one.points, two.points)
    assert np.allclose(one.points.std(axis=0), 1)


def test_a_figure_has_a_panel_for_each_model() -> None:
    pairs = drawn(20)
    vectors = np.random.default_rng(2).normal(size=(len(pairs.rows), 5)).astype(np.float32)
    found = embed(vectors, vectors[:, 0], pairs, perplexity=5)
    figure = draw_embeddings([found, found], ["one", "two"], pairs.true, ("title", "note"))
    assert [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes] == ["one", "two"]
