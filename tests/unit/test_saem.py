"""SAEM: both branches by hand, its own loss terms, its settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tiny import DIM, REGION_DIM, VOCAB, images, sentences
from visavis.config import build
from visavis.errors import DataError, RecipeError
from visavis.losses.angular import angular
from visavis.metrics.recall import RECALLS
from visavis.models.saem import Saem, SaemConfig
from visavis.recipes.recipe import load_recipe
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, Objective
from visavis.types import OwnTerms, SentenceBatch, TrainingStep

RECIPES = Path(__file__).parents[2] / "recipes" / "saem"
SMALL = {"dim": DIM, "heads": 2, "hidden": 12, "filters": 6, "text": {"word_dim": 6}}


def config_of(**settings: Any) -> SaemConfig:
    values = {"region_dim": REGION_DIM, "vocab_size": VOCAB, **SMALL, **settings}
    return build(SaemConfig, values, "model")


def model_of(**settings: Any) -> Saem:
    torch.manual_seed(0)
    return Saem(config_of(**settings)).eval()


def frozen(lengths: tuple[int, ...], dim: int = 7, extra: int = 0) -> SentenceBatch:
    generator = torch.Generator().manual_seed(4)
    batch = sentences(lengths)
    states = torch.zeros(*batch.mask.shape, dim)
    for row, length in enumerate(lengths):
        states[row, :length] = torch.randn(length, dim, generator=generator)
    return SentenceBatch(
        functional.pad(batch.ids, (0, extra)),
        functional.pad(batch.mask, (0, extra)),
        functional.pad(states, (0, 0, 0, extra), value=5.0),
    )


def step_of(model: Saem, *, epoch: int, count: int = 4) -> TrainingStep:
    left, right = images((5, 3, 4, 2)[:count]), sentences((4, 1, 6, 3)[:count])
    return TrainingStep(
        images=left,
        sentences=right,
        encoded_images=model.encode_images(left),
        encoded_sentences=model.encode_sentences(right),
        positives=torch.eye(count, dtype=torch.bool),
        epoch=epoch,
    )


@torch.no_grad()
def test_an_image_is_the_mean_of_its_regions_after_the_unit() -> None:
    model, batch = model_of(), images((5, 2))
    found = model.encode_images(batch).tokens[:, 0]
    for row, length in enumerate((5, 2)):
        projected = model.project(batch.regions[row : row + 1, :length])
        hidden = model.unit(projected, torch.ones(1, length, dtype=torch.bool))
        mean = hidden[0].mean(dim=0)
        torch.testing.assert_close(found[row], mean / mean.norm())


@torch.no_grad()
def test_a_score_is_the_cosine_of_two_unit_vectors() -> None:
    model = model_of()
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    assert left.pooled is not None
    assert right.pooled is not None
    assert left.tokens.shape == (6, 1, DIM)
    expected = functional.cosine_similarity(left.pooled[:, None], right.pooled[None], dim=2)
    torch.testing.assert_close(model.score(left, right).i2t, expected)


@torch.no_grad()
def test_the_order_of_regions_does_not_matter() -> None:
    model, batch = model_of(), images((5, 5))
    turned = type(batch)(batch.regions.flip(1), batch.mask)
    torch.testing.assert_close(
        model.encode_images(turned).tokens, model.encode_images(batch).tokens
    )


@torch.no_grad()
def test_frozen_states_go_into_the_filters_as_they_are() -> None:
    model = model_of(text={"encoder": "frozen", "state_dim": 7})
    batch = frozen((4, 1, 3))
    assert batch.states is not None
    expected = model.phrases(batch.states, batch.mask)
    torch.testing.assert_close(model.encode_sentences(batch).tokens[:, 0], expected)
    assert not list(model.text.parameters())


def test_states_of_another_width_are_refused() -> None:
    model = model_of(text={"encoder": "frozen", "state_dim": 7})
    with pytest.raises(DataError, match="width 7, the sentences have width 9"):
        model.encode_sentences(frozen((4, 1), dim=9))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["words", "all"])
def test_company_does_not_change_a_sentence(positions: str) -> None:
    model = model_of(positions=positions, text={"encoder": "frozen", "state_dim": 7})
    alone, padded = (model.encode_sentences(frozen((4, 2), extra=n)).tokens for n in (0, 5))
    torch.testing.assert_close(alone, padded)


@torch.no_grad()
def test_all_positions_are_32_as_published() -> None:
    model = model_of(positions="all", text={"encoder": "frozen", "state_dim": 7})
    batch = frozen((40, 3))
    assert batch.states is not None
    for row, length in enumerate((32, 3)):
        states = functional.pad(batch.states[row : row + 1, :length], (0, 0, 0, 32 - length))
        expected = model.phrases(states, torch.ones(1, 32, dtype=torch.bool))
        found = model.encode_sentences(batch).tokens[row]
        torch.testing.assert_close(found, expected)


def test_the_image_branch_has_as_many_parameters_as_the_original() -> None:
    model = Saem(SaemConfig(region_dim=2048, vocab_size=4))
    branch = [*model.project.parameters(), *model.unit.parameters()]
    assert sum(parameter.numel() for parameter in branch) == 1_839_616


@pytest.mark.parametrize(
    ("epoch", "weight"),
    [(0, 0.5), (4, 0.5), (5, 0.05), (9, 0.05), (10, 0.005), (20, 5e-5), (21, 0.0), (29, 0.0)],
)
def test_the_angular_weight_fades_out(epoch: int, weight: float) -> None:
    assert config_of().angular_weight_at(epoch) == pytest.approx(weight)
    model = model_of()
    step = step_of(model, epoch=epoch)
    vectors = step.encoded_images.tokens[:, 0], step.encoded_sentences.tokens[:, 0]
    expected = weight * angular(*vectors, step.positives)
    torch.testing.assert_close(model.own_terms(step)["angular"], expected)


def test_own_terms_have_the_same_names_in_every_epoch() -> None:
    model = model_of()
    assert isinstance(model, OwnTerms)
    names = [list(model.own_terms(step_of(model, epoch=epoch))) for epoch in (0, 21)]
    assert names == [["angular", "weight_penalty"]] * 2


def frobenius(linear: nn.Linear) -> float:
    return math.sqrt(sum(x * x for row in linear.weight.tolist() for x in row))


def test_the_penalty_is_the_sum_of_norms_of_the_image_matrices() -> None:
    model = model_of(weight_penalty=0.1, standardise_regions=True)
    attention, feed_forward = model.unit.attention, model.unit.feed_forward
    matrices = (
        model.project.linear,
        attention.query,
        attention.key,
        attention.value,
        attention.out,
        feed_forward.first,
        feed_forward.second,
    )
    penalty = model.own_terms(step_of(model, epoch=0))["weight_penalty"]
    assert penalty.item() == pytest.approx(0.1 * sum(map(frobenius, matrices)), rel=1e-5)


def test_the_penalty_pulls_at_image_matrices_alone() -> None:
    model = model_of()
    model.image_weight_norms().backward()
    pulled = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert pulled == {
        name
        for name, parameter in model.named_parameters()
        if name.startswith(("project.", "unit.")) and parameter.dim() == 2
    }


def test_terms_of_weight_zero_are_zero() -> None:
    model = model_of(angular_weight=0.0, weight_penalty=0.0)
    terms = model.own_terms(step_of(model, epoch=0))
    assert [term.item() for term in terms.values()] == [0.0, 0.0]


def test_training_adds_the_own_terms_to_the_hinge() -> None:
    model = model_of()
    step = step_of(model, epoch=0)
    batch = Batch(step.images, step.sentences, step.positives)
    found = Objective(model, ObjectiveConfig()).eval()(batch, 0)
    scores = model.score(step.encoded_images, step.encoded_sentences).i2t
    own = model.own_terms(step)
    assert found["ranking"].item() == pytest.approx(slow_hinge(scores), rel=1e-5)
    assert {name: found[name].item() for name in own} == pytest.approx(
        {name: term.item() for name, term in own.items()}
    )
    assert set(found) == {"ranking", *own}


def slow_hinge(scores: Tensor) -> float:
    count, values = len(scores), scores.tolist()
    total = 0.0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        total += max(0.0, *(0.2 + values[i][j] - values[i][i] for j in others))
        total += max(0.0, *(0.2 + values[j][i] - values[i][i] for j in others))
    return total


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 20, "heads": 16}, "model: dim must be a multiple of heads, got dim 20 and heads"),
        ({"heads": 0}, "model: heads and hidden must be at least 1"),
        ({"dropout": 1.0}, r"model: dropout must be in \[0, 1\), got 1.0"),
        ({"filters": 0}, "model: filters must be at least 1, got 0"),
        ({"angular_decay_epochs": 0}, "model: angular_decay_epochs must be at least 1, got 0"),
        ({"weight_penalty": -1}, "model: weight_penalty must be at least 0, got -1"),
        ({"positions": "word"}, "model.positions: 'word' is not a choice; did you mean 'words'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        config_of(**settings)


@pytest.mark.parametrize("corpus", ["flickr30k", "coco"])
def test_published_figures_of_a_recipe_add_up(corpus: str) -> None:
    recipe = load_recipe(RECIPES / f"{corpus}.yaml")
    figures = {name: value for name, value in recipe.expected.items() if value is not None}
    assert set(figures) == {*RECALLS, "rsum"}
    assert figures["rsum"] == pytest.approx(sum(figures[name] for name in RECALLS))
