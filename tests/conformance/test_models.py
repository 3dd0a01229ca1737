"""What every model of the table must hold; a new one is tested by its line in tests/tiny.py."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tiny import VARIANTS, close, images, sentences, tiny_model
from visavis.data.features import FeatureIdentity
from visavis.data.tokenizer import WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.models import MODELS
from visavis.models.pretrained import Pretrained
from visavis.scoring.matrix import Block, score_matrix, score_pairs, score_stripe
from visavis.types import (
    ImageBatch,
    Matcher,
    OwnTerms,
    Scores,
    SentenceBatch,
    TrainingStep,
)

every_model = pytest.mark.parametrize("variant", VARIANTS)


def matcher(variant: str) -> Matcher:
    return cast("Matcher", tiny_model(variant))


def scores_of(model: Matcher, left: ImageBatch, right: SentenceBatch) -> Tensor:
    return score_matrix(model, model.encode_images(left), model.encode_sentences(right)).i2t


def test_every_model_of_the_table_is_tested() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(MODELS)


@every_model
def test_follows_the_protocol(variant: str) -> None:
    assert isinstance(tiny_model(variant), Matcher)


@every_model
def test_blocks_do_not_change_scores(variant: str) -> None:
    model = matcher(variant)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    whole = model.score(left, right)
    for rows, budget in ((1, 1), (2, 500), (4, 10**4), (99, 10**8)):
        blocks = score_matrix(model, left, right, block=Block(rows=rows, budget_bytes=budget))
        close(blocks.i2t, whole.i2t)
        close(blocks.t2i, whole.t2i)


@every_model
def test_pairs_equal_the_entries_of_the_matrix(variant: str) -> None:
    model = matcher(variant)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    whole: Scores = model.score(left, right)
    row, column = torch.tensor([0, 3, 5, 3]), torch.tensor([1, 6, 0, 1])
    block = Block(budget_bytes=200)
    pairs = score_pairs(model, left.select(row), right.select(column), block=block)
    close(pairs.i2t, whole.i2t[row, column])
    close(pairs.t2i, whole.t2i[row, column])


@every_model
def test_padding_does_not_change_scores(variant: str) -> None:
    model = matcher(variant)
    left, right = images(), sentences()
    padded_left = ImageBatch(
        functional.pad(left.regions, (0, 0, 0, 3), value=7.0), functional.pad(left.mask, (0, 3))
    )
    padded_right = SentenceBatch(
        functional.pad(right.ids, (0, 4), value=5), functional.pad(right.mask, (0, 4))
    )
    close(scores_of(model, padded_left, padded_right), scores_of(model, left, right))


@every_model
def test_order_of_items_does_not_matter(variant: str) -> None:
    model = matcher(variant)
    left, right = images(), sentences()
    rows, columns = torch.tensor([4, 2, 0, 5, 1, 3]), torch.tensor([6, 0, 3, 1, 5, 2, 4])
    permuted = scores_of(model, left.select(rows), right.select(columns))
    close(permuted, scores_of(model, left, right)[rows][:, columns])


@every_model
def test_an_item_alone_is_scored_as_in_company(variant: str) -> None:
    model = matcher(variant)
    left, right = images(), sentences()
    whole = scores_of(model, left, right)
    for row in range(len(left)):
        for column in range(len(right)):
            one = scores_of(
                model,
                left.select(slice(row, row + 1)),
                right.select(slice(column, column + 1)),
            )
            close(one, whole[row : row + 1, column : column + 1])


@every_model
def test_one_word_and_one_region_work(variant: str) -> None:
    model = matcher(variant)
    score = scores_of(model, images((1,)), sentences((1,)))
    assert score.shape == (1, 1)
    assert torch.isfinite(score).all()


def own_loss(model: Matcher) -> Tensor:
    """The sum of the terms that a model brings itself; it is trained to make them."""
    if not isinstance(model, OwnTerms):
        return torch.zeros(())
    left, right = images(), sentences().select(slice(0, len(images())))
    cast("nn.Module", model).train()
    positives = torch.eye(len(left), dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True  # two sentences of one image
    step = TrainingStep(
        left,
        right,
        model.encode_images(left),
        model.encode_sentences(right),
        positives,
        epoch=0,
    )
    return sum(model.own_terms(step).values(), torch.zeros(()))


@every_model
def test_gradients_are_finite_and_reach_every_parameter(variant: str) -> None:
    model = matcher(variant)
    scores = score_stripe(
        model, model.encode_images(images()), model.encode_sentences(sentences()), budget_bytes=640
    )
    (scores.i2t.square().sum() + scores.t2i.square().sum() + own_loss(model)).backward()
    for name, parameter in cast("nn.Module", model).named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name == "project.linear.bias", name


@every_model
def test_stored_in_float16_it_scores_nearly_the_same(variant: str) -> None:
    model = matcher(variant)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    whole = model.score(left, right).i2t
    half = model.score(
        left._map(lambda t: t.half().float() if t.is_floating_point() else t),
        right._map(lambda t: t.half().float() if t.is_floating_point() else t),
    ).i2t
    close(half, whole, atol=1e-2)


@every_model
def test_pooled_vectors_have_unit_length(variant: str) -> None:
    model = matcher(variant)
    for encoded in (model.encode_images(images()), model.encode_sentences(sentences())):
        if encoded.pooled is not None:
            close(encoded.pooled.norm(dim=1), torch.ones(len(encoded)))


@every_model
def test_saved_and_loaded_it_scores_the_same(variant: str, tmp_path: Path) -> None:
    name, _ = VARIANTS[variant]
    model = tiny_model(variant)
    vocabulary = Vocabulary.build([" ".join(f"w{i}" for i in range(16))], threshold=1)
    pretrained = Pretrained(
        name, model, WordTokenizer(vocabulary), FeatureIdentity(extractor="precomputed")
    )
    pretrained.save_pretrained(tmp_path / "model")
    loaded = Pretrained.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.model.config == model.config
    before = scores_of(cast("Matcher", model), images(), sentences())
    after = scores_of(cast("Matcher", loaded.model), images(), sentences())
    assert torch.equal(before, after)
