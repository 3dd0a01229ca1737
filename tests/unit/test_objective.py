"""The loss of a batch: which loss in which epoch, on which scores, with which negatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import images, sentences, tiny_model
from visavis.errors import RecipeError
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, CollapseWatch, Objective
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

PLACES = torch.tensor([0, 1, 2, 3, 4, 5])


def batch(groups: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Batch:
    """Six pairs; those of one group have the same image."""
    numbers = torch.tensor(groups)
    return Batch(
        images().select(numbers), sentences().select(PLACES), numbers[:, None] == numbers[None]
    )


def scores_of(model: Any, pairs: Batch) -> Tensor:
    left, right = model.encode_images(pairs.images), model.encode_sentences(pairs.sentences)
    scores: Tensor = model.score(left, right).i2t
    return scores


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
    objective = Objective(model, ObjectiveConfig(warmup_epochs=2, margin=0.3))
    scores = scores_of(model, pairs)
    for epoch in (0, 1):
        torch.testing.assert_close(objective(pairs, epoch), sum_hinge(scores, pairs.positives, 0.3))
    hardest = hardest_hinge(scores, pairs.positives, 0.3)
    torch.testing.assert_close(objective(pairs, 2), hardest)
    assert not torch.isclose(objective(pairs, 1), hardest)


def test_without_warm_up_the_first_epoch_takes_the_hardest() -> None:
    model, pairs = tiny_model("vse"), batch()
    expected = hardest_hinge(scores_of(model, pairs), pairs.positives, 0.2)
    torch.testing.assert_close(Objective(model, ObjectiveConfig())(pairs, 0), expected)


def test_ground_truth_spares_the_other_sentences_of_an_image_and_diagonal_does_not() -> None:
    pairs = batch((0, 0, 1, 2, 3, 0))  # three sentences of one image
    perfect = torch.where(pairs.positives, 1.0, -1.0)
    model = TwoSided(perfect, perfect)
    assert Objective(model, ObjectiveConfig(positives="ground_truth"))(pairs, 0).item() == 0
    # Each of the three has a rival that scores as it does: one margin in each direction.
    diagonal = Objective(model, ObjectiveConfig(positives="diagonal"))(pairs, 0).item()
    assert diagonal == pytest.approx(3 * 2 * 0.2)


def test_the_loss_is_that_of_the_scores_with_the_positives_asked_for() -> None:
    model, pairs = tiny_model("vse"), batch((0, 0, 1, 2, 3, 0))
    scores = scores_of(model, pairs)
    by_name = {"ground_truth": pairs.positives, "diagonal": torch.eye(6, dtype=torch.bool)}
    for name, positives in by_name.items():
        config = ObjectiveConfig(positives=name)  # type: ignore[arg-type]
        expected = hardest_hinge(scores, positives, 0.2)
        torch.testing.assert_close(Objective(model, config)(pairs, 0), expected)


def test_two_directions_are_averaged() -> None:
    i2t, t2i = torch.rand(6, 6), torch.rand(6, 6)
    pairs = batch()
    found = Objective(TwoSided(i2t, t2i), ObjectiveConfig())(pairs, 0)
    expected = (hardest_hinge(i2t, pairs.positives) + hardest_hinge(t2i, pairs.positives)) / 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("variant", ["vse", "scan-i2t"])
def test_in_half_precision_the_scores_and_the_loss_are_float32(variant: str) -> None:
    model, pairs = tiny_model(variant), batch()
    objective = Objective(model, ObjectiveConfig(loss="sum_hinge"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert objective._scores(pairs).i2t.dtype == torch.float32
        half = objective(pairs, 0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, objective(pairs, 0), rtol=0.05, atol=0.05)
    assert half.item() != objective(pairs, 0).item()


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
