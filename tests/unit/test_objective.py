"""The loss of a batch: which loss in which epoch, on which scores, with which negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import images, sentences, tiny_model
from visavis.errors import RecipeError
from visavis.losses.contrastive import contrastive
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, CollapseWatch, Objective
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch, TrainingStep

PLACES = torch.tensor([0, 1, 2, 3, 4, 5])


def batch(groups: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Batch:
    """Six pairs; those of one group have the same image."""
    numbers = torch.tensor(groups)
    return Batch(
        images().select(numbers), sentences().select(PLACES), numbers[:, None] == numbers[None]
    )


def scores_of(model: Any, pairs: Batch) -> Scores:
    left, right = model.encode_images(pairs.images), model.encode_sentences(pairs.sentences)
    scores: Scores = model.score(left, right)
    return scores


def ranking(model: nn.Module, config: ObjectiveConfig, pairs: Batch, epoch: int = 0) -> Tensor:
    """The loss of a model without terms of its own."""
    terms = Objective(model, config)(pairs, epoch)
    assert list(terms) == ["ranking"]
    found: Tensor = terms["ranking"]
    return found


class TwoSided(nn.Module):
    """Scores of its own for each direction, whatever is encoded."""

    def __init__(self, i2t: Tensor, t2i: Tensor) -> None:
        super().__init__()
        self.tables = i2t, t2i

    def encode_images(self, pictures: ImageBatch) -> Encoded:
        return self._numbers(pictures.mask)

    def encode_sentences(self, texts: SentenceBatch) -> Encoded:
        return self._numbers(texts.mask)

    def _numbers(self, mask: Tensor) -> Encoded:
        numbers = torch.arange(len(mask), dtype=torch.float32).view(-1, 1, 1)
        return Encoded(numbers, torch.ones(len(mask), 1, dtype=torch.bool))

    def score(self, left: Encoded, right: Encoded) -> Scores:
        rows, columns = (items.tokens[:, 0, 0].long() for items in (left, right))
        return Scores(*(table[rows][:, columns] for table in self.tables))

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        raise NotImplementedError


@pytest.mark.parametrize("variant", ["vse", "scan-t2i"])
def test_warm_up_epochs_sum_all_negatives_and_later_ones_take_the_hardest(variant: str) -> None:
    model, pairs = tiny_model(variant), batch()
    config = ObjectiveConfig(warmup_epochs=2, margin=0.3)
    scores = scores_of(model, pairs)
    for epoch in (0, 1):
        expected = sum_hinge(scores, pairs.positives, 0.3)
        torch.testing.assert_close(ranking(model, config, pairs, epoch), expected)
    hardest = hardest_hinge(scores, pairs.positives, 0.3)
    torch.testing.assert_close(ranking(model, config, pairs, 2), hardest)
    assert not torch.isclose(ranking(model, config, pairs, 1), hardest)


def test_a_recipe_names_the_loss_of_the_warm_up() -> None:
    model, pairs = tiny_model("vse"), batch()
    config = ObjectiveConfig(warmup_epochs=1, warmup="contrastive", temperature=0.1)
    expected = contrastive(scores_of(model, pairs), pairs.positives, 0.2, 0.1)
    torch.testing.assert_close(ranking(model, config, pairs, 0), expected)


def test_without_warm_up_the_first_epoch_takes_the_hardest() -> None:
    model, pairs = tiny_model("vse"), batch()
    expected = hardest_hinge(scores_of(model, pairs), pairs.positives, 0.2)
    torch.testing.assert_close(ranking(model, ObjectiveConfig(), pairs), expected)


def test_ground_truth_spares_the_other_sentences_of_an_image_and_diagonal_does_not() -> None:
    pairs = batch((0, 0, 1, 2, 3, 0))  # three sentences of one image
    perfect = torch.where(pairs.positives, 1.0, -1.0)
    model = TwoSided(perfect, perfect)
    assert ranking(model, ObjectiveConfig(positives="ground_truth"), pairs).item() == 0
    # Each of the three has a rival that scores as it does: one margin in each direction.
    diagonal = ranking(model, ObjectiveConfig(positives="diagonal"), pairs).item()
    assert diagonal == pytest.approx(3 * 2 * 0.2)


def test_the_loss_is_that_of_the_scores_with_the_positives_asked_for() -> None:
    model, pairs = tiny_model("vse"), batch((0, 0, 1, 2, 3, 0))
    scores = scores_of(model, pairs)
    by_name = {"ground_truth": pairs.positives, "diagonal": torch.eye(6, dtype=torch.bool)}
    for name, positives in by_name.items():
        config = ObjectiveConfig(positives=name)  # type: ignore[arg-type]
        expected = hardest_hinge(scores, positives, 0.2)
        torch.testing.assert_close(ranking(model, config, pairs), expected)


def test_each_direction_is_trained_by_its_own_line_of_the_loss() -> None:
    perfect, wrong = torch.eye(6), torch.zeros(6, 6)
    wrong[0] = 1.0  # image 0 fits every sentence, so it beats the images of the five others
    pairs = batch()
    as_images = ranking(TwoSided(perfect, wrong), ObjectiveConfig(), pairs).item()
    as_sentences = ranking(TwoSided(wrong, perfect), ObjectiveConfig(), pairs).item()
    # Columns: 0 has no rival near; the five others miss by 1 + margin.
    assert as_images == pytest.approx(5 * 1.2)
    # Rows: image 0 has five sentences that tie (a margin), the others tie at 0 (a margin each).
    assert as_sentences == pytest.approx(6 * 0.2)


@pytest.mark.parametrize("variant", ["vse", "scan-i2t"])
def test_in_half_precision_the_scores_and_the_loss_are_float32(variant: str) -> None:
    model, pairs = tiny_model(variant), batch()
    config = ObjectiveConfig(loss="sum_hinge")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = ranking(model, config, pairs)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, ranking(model, config, pairs), rtol=0.05, atol=0.05)
    assert half.item() != ranking(model, config, pairs).item()


class Own(nn.Module):
    """A model with terms of its own, which keeps what it was told."""

    def __init__(self, terms: dict[str, Tensor]) -> None:
        super().__init__()
        self.inner = tiny_model("vse")
        self.terms = terms
        self.told: list[TrainingStep] = []
        self.halves: list[bool] = []

    def encode_images(self, pictures: ImageBatch) -> Encoded:
        return self.inner.encode_images(pictures)  # type: ignore[no-any-return, operator]

    def encode_sentences(self, texts: SentenceBatch) -> Encoded:
        return self.inner.encode_sentences(texts)  # type: ignore[no-any-return, operator]

    def score(self, left: Encoded, right: Encoded) -> Scores:
        return self.inner.score(left, right)  # type: ignore[no-any-return, operator]

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        return self.inner.score_pairs(left, right)  # type: ignore[no-any-return, operator]

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        self.told.append(step)
        self.halves.append(torch.is_autocast_enabled("cpu"))
        return self.terms


def test_own_terms_stand_beside_the_ranking_loss_by_name() -> None:
    model, pairs = Own({"angular": torch.tensor(2.0), "weights": torch.tensor(0.5)}), batch()
    terms = Objective(model, ObjectiveConfig())(pairs, 3)
    assert list(terms) == ["ranking", "angular", "weights"]
    expected = ranking(model.inner, ObjectiveConfig(), pairs)
    torch.testing.assert_close(terms["ranking"], expected)
    assert (terms["angular"].item(), terms["weights"].item()) == (2.0, 0.5)


@pytest.mark.parametrize("positives", ["ground_truth", "diagonal"])
def test_own_terms_are_told_the_batch_its_vectors_and_the_epoch(positives: Any) -> None:
    model, pairs = Own({}), batch((0, 0, 1, 2, 3, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Objective(model, ObjectiveConfig(positives=positives))(pairs, 7)
    (step,) = model.told
    assert step.epoch == 7
    assert step.images is pairs.images
    assert step.sentences is pairs.sentences
    assert step.encoded_images.tokens.dtype == torch.float32
    assert step.encoded_sentences.tokens.shape == (6, 1, 8)
    wanted = pairs.positives if positives == "ground_truth" else torch.eye(6, dtype=torch.bool)
    assert torch.equal(step.positives, wanted)
    assert model.halves == [False]  # full precision, whatever the encoders had


@pytest.mark.parametrize(
    "terms", [{"loss": torch.tensor(1.0)}, {"ranking": torch.tensor(1.0)}, {"a": torch.ones(2)}]
)
def test_an_own_term_with_a_taken_name_or_a_shape_is_refused(terms: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"own term '.*': expected a scalar not named"):
        Objective(Own(terms), ObjectiveConfig())(batch(), 0)


def test_what_is_wholly_frozen_keeps_evaluating() -> None:
    model = nn.ModuleDict(
        {
            "frozen": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)),
            "partly": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)),
            "loose": nn.Dropout(0.5),
            "gru": nn.GRU(2, 2),
        }
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(("frozen", "gru", "partly.0.bias")))
    objective = Objective(model, ObjectiveConfig()).train()
    modes = {name: module.training for name, module in model.named_modules()}
    assert [name for name, mode in modes.items() if not mode] == [
        "frozen",
        "frozen.0",
        "frozen.1",
    ]  # a recurrent layer without dropout keeps the mode in which it has gradients everywhere
    assert not any(module.training for module in objective.eval().modules())


def test_what_is_no_matcher_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear does not follow the Matcher protocol"):
        Objective(nn.Linear(1, 1), ObjectiveConfig())(batch(), 0)


def test_an_unknown_loss_is_refused_before_training() -> None:
    with pytest.raises(RecipeError, match="did you mean 'sum_hinge'"):
        Objective(tiny_model("vse"), ObjectiveConfig(loss="sum_hing"))


def test_a_loss_that_stands_at_twice_the_margin_is_a_collapse() -> None:
    watch = CollapseWatch(0.2, patience=10)
    seen = [watch.see(51.2 + wobble, 128) for wobble in (0.0, 0.3, -0.3) * 5]
    assert seen == [False] * 9 + [True] * 6


@pytest.mark.parametrize("level", [0.0, 30.0, 50.0, 52.5, 51.2 * 127])
def test_other_losses_are_no_collapse(level: float) -> None:
    watch = CollapseWatch(0.2, patience=10)
    assert not any(watch.see(level, 128) for _ in range(50))


def test_one_batch_of_another_loss_begins_the_count_again() -> None:
    watch = CollapseWatch(0.2, patience=10)
    losses = [51.2] * 9 + [49.0] + [51.2] * 9
    assert not any(watch.see(loss, 128) for loss in losses)


def test_without_a_margin_nothing_is_said() -> None:
    watch = CollapseWatch(0.0, patience=3)
    assert not any(watch.see(0.0, 128) for _ in range(10))


def test_only_active_pairs_give_the_same_terms_and_gradients() -> None:
    found = []
    for active_only in (False, True):
        model = tiny_model("scan-t2i")
        objective = Objective(model, ObjectiveConfig(active_only=active_only))
        terms = objective(batch(), 0)
        torch.autograd.backward(terms["ranking"])
        grads = [entry.grad for entry in model.parameters() if entry.grad is not None]
        found.append((terms["ranking"].item(), grads))
    (whole, theirs), (active, ours) = found
    assert active == pytest.approx(whole, rel=1e-5)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


def test_active_pairs_and_recomputation_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="active_only"):
        ObjectiveConfig(active_only=True, recompute=True)
