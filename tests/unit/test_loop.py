"""The training loop: what a step is made of, when it stops, what it keeps and what it says."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import images, sentences, tiny_model
from tests.tiny_corpus import tiny_material, tiny_recipe, tiny_source, tiny_tokenizer
from tests.unit.test_files import files_up_to
from visavis.errors import CheckpointError, DataError, StorageError, TrainingError
from visavis.losses.hinge import hardest_hinge
from visavis.models import model_class
from visavis.training.checkpoint import load_state, states
from visavis.training.config import ObjectiveConfig, ScheduleConfig, TrainConfig
from visavis.training.freeze import freeze
from visavis.training.log import read_metrics
from visavis.training.loop import Hooks, Trainer
from visavis.training.objective import CollapseWatch
from visavis.training.position import Result
from visavis.types import ImageBatch, SentenceBatch, TrainingStep

MATERIAL = tiny_material()
BATCHES = 48 // 7  # of an epoch of the tiny corpus


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    words = tiny_tokenizer(MATERIAL.corpus.split("train")).vocab_size
    settings = tiny_recipe().model_config(region_dim=MATERIAL.features.dim, vocab_size=words)
    model: nn.Module = model_class("scan")(settings)
    return model


class Judge:
    """Validation with figures thought out beforehand; remembers which models were kept."""

    def __init__(self, rsums: list[float]) -> None:
        self.rsums = rsums
        self.asked = 0
        self.best: list[float] = []
        self.training: list[bool] = []

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        self.training.append(model.training)
        self.asked += 1
        return {"rsum": self.rsums[self.asked - 1]}

    def save_best(self, model: nn.Module, metrics: Mapping[str, float]) -> None:
        self.best.append(metrics["rsum"])

    @property
    def hooks(self) -> Hooks:
        return Hooks(validate=self.validate, save_best=self.save_best)


def config(**settings: Any) -> TrainConfig:
    values = {"epochs": 2, "batch_size": 7, "lr": 0.01, "log_steps": 1, **settings}
    return TrainConfig(**{"schedule": ScheduleConfig(name="constant"), **values})


def train(
    folder: Path,
    judge: Judge | None = None,
    objective: ObjectiveConfig | None = None,
    **settings: Any,
) -> tuple[Trainer, Result]:
    trainer = Trainer(
        small_model(),
        tiny_source(MATERIAL),
        config(**settings),
        objective or ObjectiveConfig(warmup_epochs=1),
        (judge or Judge([1.0] * 99)).hooks,
        folder,
    )
    return trainer, trainer.run(show_progress=False)


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(folder / "metrics.jsonl") if line["event"] == event]


class Fixed:
    """A source of the same pairs in the same order, from the tiny batches."""

    def __init__(
        self, pairs: int, change: Callable[[ImageBatch], ImageBatch] | None = None
    ) -> None:
        self.pairs = pairs
        self.change = change or (lambda batch: batch)

    def __len__(self) -> int:
        return self.pairs

    def order(self, seed: int, epoch: int) -> Tensor:
        return torch.arange(self.pairs)

    def read(self, pairs: list[int]) -> tuple[ImageBatch, SentenceBatch, Tensor]:
        rows = torch.tensor(pairs) % 6
        positives = rows[:, None] == rows[None]
        return self.change(images().select(rows)), sentences().select(rows), positives


class Plain(torch.optim.SGD):
    """Gradient descent: a step is the gradient itself."""


def steps_taken(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pairs: int, **settings: Any
) -> list[Tensor]:
    """The change of one weight at every step of plain gradient descent."""
    monkeypatch.setattr(
        "visavis.training.loop.make_optimizer", lambda config, weights: Plain(weights, lr=1.0)
    )
    model = tiny_model("vse")
    weight = model.project[0].linear.weight
    seen = [weight.detach().clone()]
    real = Trainer._step

    def step(self: Trainer) -> None:
        real(self)
        seen.append(weight.detach().clone())

    monkeypatch.setattr(Trainer, "_step", step)
    values = config(epochs=1, batch_size=2, clip_norm=0.0, **settings)
    hooks = Judge([1.0]).hooks
    Trainer(model, Fixed(pairs), values, ObjectiveConfig(), hooks, folder).run(show_progress=False)
    return [after - before for before, after in itertools.pairwise(seen)]


def gradient(batches: list[list[int]], moved: Tensor | None = None) -> Tensor:
    """The mean of the gradients of some batches, by hand."""
    model: Any = tiny_model("vse")
    if moved is not None:
        model.project[0].linear.weight.data += moved
    for pairs in batches:
        pictures, texts, positives = Fixed(6).read(pairs)
        left, right = model.encode_images(pictures), model.encode_sentences(texts)
        loss = hardest_hinge(model.score(left, right), positives, 0.2)
        (loss / len(batches)).backward()
    found: Tensor = model.project[0].linear.weight.grad
    return found


def test_a_step_follows_the_gradient_of_its_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = steps_taken(monkeypatch, tmp_path, 4)
    assert len(steps) == 2
    torch.testing.assert_close(steps[0], -gradient([[0, 1]]))


def test_accumulated_batches_are_averaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = steps_taken(monkeypatch, tmp_path, 4, accumulate=2)
    assert len(steps) == 1
    torch.testing.assert_close(steps[0], -gradient([[0, 1], [2, 3]]))


def test_the_last_step_of_an_epoch_averages_the_batches_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Three batches of an accumulation of 8: the mean of three, not an eighth of their sum.
    steps = steps_taken(monkeypatch, tmp_path, 6, accumulate=8)
    assert len(steps) == 1
    torch.testing.assert_close(steps[0], -gradient([[0, 1], [2, 3], [4, 5]]))


def test_gradients_are_clipped_to_the_norm_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    norms = []
    real = Trainer._step

    def step(self: Trainer) -> None:
        self.optimizer.zero_grad = lambda: None  # what the step used is looked at afterwards
        real(self)
        weights = [w.grad for w in self.objective.parameters() if w.grad is not None]
        norms.append(torch.stack([w.norm() for w in weights]).norm().item())
        for weight in self.objective.parameters():
            weight.grad = None

    monkeypatch.setattr(Trainer, "_step", step)
    train(tmp_path, epochs=1, clip_norm=0.5)
    assert len(norms) == BATCHES
    assert norms == pytest.approx([0.5] * BATCHES, rel=1e-3)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(tmp_path, epochs=8, objective=ObjectiveConfig(loss="sum_hinge"))
    losses = [line["loss"] for line in lines(tmp_path, "train")]
    assert sum(losses[-BATCHES:]) < 0.5 * sum(losses[:BATCHES])


def test_half_precision_trains_too_also_after_full_precision(tmp_path: Path) -> None:
    objective = ObjectiveConfig(loss="sum_hinge")
    losses = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        trainer, _ = train(folder, epochs=4, objective=objective, precision=precision)
        losses[precision] = [line["loss"] for line in lines(folder, "train")]
        assert all(weight.dtype == torch.float32 for weight in trainer.model.parameters())
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.2)
    assert losses["bf16"] != losses["fp32"]
    assert sum(losses["bf16"][-BATCHES:]) < 0.9 * sum(losses["bf16"][:BATCHES])


def test_the_model_is_validated_in_evaluation_mode_once_an_epoch(tmp_path: Path) -> None:
    judge = Judge([3.0, 5.0, 4.0])
    _, result = train(tmp_path, judge, epochs=3)
    assert judge.training == [False] * 3
    assert judge.best == [3.0, 5.0]
    assert result == Result(
        best_rsum=5.0,
        best_epoch=1,
        epochs=3,
        steps=3 * BATCHES,
        stopped_early=False,
        collapsed=False,
    )
    found = [(line["epoch"], line["rsum"]) for line in lines(tmp_path, "validation")]
    assert found == [(0, 3.0), (1, 5.0), (2, 4.0)]


def test_a_figure_that_is_only_as_good_is_not_better(tmp_path: Path) -> None:
    judge = Judge([3.0, 3.0])
    _, result = train(tmp_path, judge)
    assert judge.best == [3.0]
    assert result.best_epoch == 0


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    judge = Judge([5.0, 3.0, 3.0])
    _, result = train(tmp_path, judge, epochs=3, keep="last")
    assert judge.best == [5.0, 3.0, 3.0]
    assert (result.best_epoch, result.best_rsum) == (2, 3.0)


def test_training_stops_when_validations_get_no_better(tmp_path: Path) -> None:
    judge = Judge([3.0, 5.0, 4.0, 4.5, 9.0])
    _, result = train(tmp_path, judge, epochs=5, patience=2)
    assert judge.asked == 4
    assert result.stopped_early
    assert (result.best_epoch, result.best_rsum, result.epochs) == (1, 5.0, 4)


def test_a_run_that_had_stopped_early_does_nothing_more(tmp_path: Path) -> None:
    _, first = train(tmp_path, Judge([3.0, 2.0, 9.0]), epochs=3, patience=1)
    judge = Judge([9.0])
    _, again = train(tmp_path, judge, epochs=3, patience=1)
    assert judge.asked == 0
    assert again == first
    assert again.stopped_early


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    _, first = train(tmp_path, Judge([3.0, 2.0]))
    before = (tmp_path / "metrics.jsonl").read_text()
    judge = Judge([9.0])
    _, again = train(tmp_path, judge)
    assert judge.asked == 0
    assert again == first
    assert not again.stopped_early
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_without_patience_training_never_stops_early(tmp_path: Path) -> None:
    _, result = train(tmp_path, Judge([5.0, 4.0, 3.0, 2.0]), epochs=4)
    assert (result.epochs, result.stopped_early) == (4, False)


def test_the_log_has_the_mean_loss_and_the_rate_of_every_so_many_steps(tmp_path: Path) -> None:
    schedule = ScheduleConfig(name="step", step_epochs=1, gamma=0.1)
    train(tmp_path / "each", epochs=2, schedule=schedule)
    train(tmp_path / "third", epochs=2, schedule=schedule, log_steps=3)
    each, third = (lines(tmp_path / name, "train") for name in ("each", "third"))
    assert [line["step"] for line in each] == list(range(1, 2 * BATCHES + 1))
    assert [line["step"] for line in third] == list(range(3, 2 * BATCHES + 1, 3))
    for number, line in enumerate(third):
        part = [other["loss"] for other in each[3 * number : 3 * number + 3]]
        assert line["loss"] == pytest.approx(sum(part) / 3)
    # The rate is the one that the next step will take.
    assert each[0]["lr"] == pytest.approx(0.01)
    assert each[BATCHES - 1]["lr"] == pytest.approx(0.001)
    assert each[-1]["epoch"] == 1


def test_the_number_of_states_kept_is_the_one_asked_for(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, checkpoint_steps=2, keep_states=3)
    kept = [int(path.stem.removeprefix("step_")) for path in states(tmp_path / "states")]
    assert kept == [8, 10, 12]
    assert load_state(states(tmp_path / "states")[-1])["position"]["epoch"] == 2


def test_a_loss_that_is_not_finite_ends_the_run_before_the_step(tmp_path: Path) -> None:
    def spoil(batch: ImageBatch) -> ImageBatch:
        return ImageBatch(batch.regions * torch.nan, batch.mask)

    model = tiny_model("vse")
    before = [weight.clone() for weight in model.parameters()]
    trainer = Trainer(
        model,
        Fixed(6, spoil),
        config(batch_size=2, checkpoint_steps=1),
        ObjectiveConfig(),
        Judge([1.0] * 2).hooks,
        tmp_path,
    )
    with pytest.raises(TrainingError, match=r"the loss is nan after step 0; lower train\.lr"):
        trainer.run(show_progress=False)
    assert states(tmp_path / "states") == []
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, old)


def test_a_run_that_found_the_disk_full_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", checkpoint_steps=2)
    largest = states(tmp_path / "whole" / "states")[-1].stat().st_size
    with files_up_to(largest - 1000), pytest.raises(StorageError, match=r"step_0000000\d\.pt"):
        train(tmp_path / "full", checkpoint_steps=2)
    assert not list((tmp_path / "full" / "states").glob(".*"))
    resumed, _ = train(tmp_path / "full", checkpoint_steps=2)
    for found, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_equal_scores_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def same(batch: ImageBatch) -> ImageBatch:
        return ImageBatch(torch.ones_like(batch.regions), torch.ones_like(batch.mask))

    class Same(Fixed):
        def read(self, pairs: list[int]) -> tuple[ImageBatch, SentenceBatch, Tensor]:
            pictures, texts, _ = super().read(pairs)
            alike = texts.select(torch.zeros(len(pairs), dtype=torch.int64))
            return pictures, alike, torch.eye(len(pairs), dtype=torch.bool)

    model = tiny_model("vse")
    trainer = Trainer(
        model,
        Same(30, same),
        config(epochs=2, batch_size=2),
        ObjectiveConfig(),
        Judge([1.0] * 2).hooks,
        tmp_path,
    )
    trainer.watch = CollapseWatch(0.2, patience=10)
    with caplog.at_level(logging.WARNING, logger="visavis"):
        result = trainer.run(show_progress=False)
    assert result.collapsed
    assert caplog.text.count("all scores have become equal") == 1
    assert [line["loss"] for line in lines(tmp_path, "train")] == pytest.approx([0.8] * 30)


def test_normal_training_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(
        small_model(),
        tiny_source(MATERIAL),
        config(epochs=4),
        ObjectiveConfig(),
        Judge([1.0] * 4).hooks,
        tmp_path,
    )
    trainer.watch = CollapseWatch(0.2, patience=10)
    with caplog.at_level(logging.WARNING, logger="visavis"):
        result = trainer.run(show_progress=False)
    assert not result.collapsed
    assert caplog.text == ""


class WithTerms(nn.Module):
    """The tiny model with two terms of its own, the second of which grows with the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: Any = tiny_model("vse")
        for name in ("encode_images", "encode_sentences", "score", "score_pairs"):
            setattr(self, name, getattr(self.inner, name))

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        weight = self.inner.project[0].linear.weight
        return {"length": 0.1 * weight.square().sum(), "late": torch.tensor(1.0 * step.epoch)}


def test_own_terms_are_minimised_and_logged_beside_the_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "visavis.training.loop.make_optimizer", lambda config, weights: Plain(weights, lr=1.0)
    )
    model = WithTerms()
    weight = model.inner.project[0].linear.weight
    before = weight.detach().clone()
    values = config(epochs=2, batch_size=4, clip_norm=0.0)
    hooks = Judge([1.0] * 2).hooks
    Trainer(model, Fixed(4), values, ObjectiveConfig(), hooks, tmp_path).run(show_progress=False)
    first, second = lines(tmp_path, "train")
    assert list(first) == ["event", "step", "epoch", "loss", "ranking", "length", "late", "lr"]
    for epoch, line in enumerate((first, second)):
        assert line["loss"] == pytest.approx(line["ranking"] + line["length"] + line["late"])
        assert line["late"] == epoch
    assert first["length"] == pytest.approx(0.1 * before.square().sum().item(), rel=1e-4)
    # The first step, by hand: the gradient of the ranking loss and that of 0.1 |W|^2.
    stepped = before - gradient([[0, 1, 2, 3]]) - 0.2 * before
    assert second["length"] == pytest.approx(0.1 * stepped.square().sum().item(), rel=1e-4)


def test_a_run_without_own_terms_logs_the_loss_alone(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    assert list(lines(tmp_path, "train")[0]) == ["event", "step", "epoch", "loss", "lr"]


def test_the_collapse_is_looked_for_in_the_ranking_term_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[float] = []

    def see(self: CollapseWatch, loss: float, batch_size: int) -> bool:
        seen.append(loss)
        return False

    monkeypatch.setattr(CollapseWatch, "see", see)
    hooks = Judge([1.0]).hooks
    values = config(epochs=1, batch_size=4)
    trainer = Trainer(WithTerms(), Fixed(8), values, ObjectiveConfig(), hooks, tmp_path)
    trainer.run(show_progress=False)
    assert seen == [line["ranking"] for line in lines(tmp_path, "train")]


def test_lines_and_messages_name_the_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge([3.0])
    hooks = Hooks(validate=judge.validate, save_best=judge.save_best, stage="second")
    values = config(epochs=1)
    source = tiny_source(MATERIAL)
    with caplog.at_level(logging.INFO, logger="visavis"):
        Trainer(small_model(), source, values, ObjectiveConfig(), hooks, tmp_path).run(
            show_progress=True
        )
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert {line["stage"] for line in found} == {"second"}
    assert "second, epoch 1: rsum 3.0, best 3.0" in caplog.text
    assert "second, epoch 1 loss" in capsys.readouterr().err


def test_the_averages_are_validated_and_kept_and_training_goes_on_with_its_own(
    tmp_path: Path,
) -> None:
    plain, averaged = tmp_path / "plain", tmp_path / "averaged"
    seen: list[Tensor] = []

    class Looking(Judge):
        def validate(self, model: nn.Module) -> Mapping[str, float]:
            seen.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
            return super().validate(model)

        def save_best(self, model: nn.Module, metrics: Mapping[str, float]) -> None:
            now = torch.cat([weight.detach().flatten() for weight in model.parameters()])
            assert torch.equal(now, seen[-1])
            super().save_best(model, metrics)

    weights = {}
    for folder, average in ((plain, 0.0), (averaged, 0.9)):
        torch.manual_seed(0)
        trainer, _ = train(folder, Looking([1.0, 2.0]), average=average)
        weights[folder] = [weight.detach() for weight in trainer.model.parameters()]
    for own, other in zip(weights[plain], weights[averaged], strict=True):
        assert torch.equal(own, other)  # validating the averages changes nothing of the training
    assert not torch.equal(seen[1], seen[3])
    state = load_state(states(averaged / "states")[-1])
    kept = [state["average"][name] for name, _ in small_model().named_parameters()]
    assert torch.equal(torch.cat([weight.flatten() for weight in kept]), seen[3])
    assert "average" not in load_state(states(plain / "states")[-1])


def test_a_resumed_average_is_equal_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    train(tmp_path / "whole", epochs=2, average=0.9, checkpoint_steps=2)
    torch.manual_seed(0)
    train(tmp_path / "cut", epochs=1, average=0.9, checkpoint_steps=2)
    train(tmp_path / "cut", epochs=2, average=0.9, checkpoint_steps=2)
    found, expected = (
        load_state(states(tmp_path / name / "states")[-1]) for name in ("cut", "whole")
    )
    for part in ("average", "model"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][name], expected[part][name]) for name in expected[part])


def test_a_state_without_averages_is_refused_when_they_are_wanted(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="the state of another model"):
        train(tmp_path, epochs=2, average=0.9)


def test_frozen_weights_stay_as_they_were(tmp_path: Path) -> None:
    model = small_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    freeze(model, ["text"], "a test")
    hooks = Judge([1.0] * 2).hooks
    values = config(weight_decay=0.1, optimizer="adamw")
    source = tiny_source(MATERIAL)
    Trainer(model, source, values, ObjectiveConfig(), hooks, tmp_path).run(show_progress=False)
    moved = {
        name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert moved == {name for name in before if not name.startswith("text")}


def test_too_few_pairs_for_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="48 training pairs do not fill a batch of 49; lower"):
        train(tmp_path, batch_size=49)


def test_a_state_of_another_batch_size_is_refused(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="an epoch had 6 batches, now it has 12"):
        train(tmp_path, epochs=2, batch_size=4)


def test_a_state_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    trainer = Trainer(
        tiny_model("vse"),
        Fixed(6 * 7),
        config(),
        ObjectiveConfig(),
        Judge([1.0] * 2).hooks,
        tmp_path,
    )
    with pytest.raises(CheckpointError, match="the state of another model") as caught:
        trainer.run(show_progress=False)
    assert "\n" not in str(caught.value)


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(seed)
        trainer, _ = train(tmp_path / name, seed=seed)
        weights.append(torch.cat([w.flatten() for w in trainer.model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_progress_is_shown_only_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "silent", epochs=1)
    assert capsys.readouterr() == ("", "")
    judge = Judge([3.0])
    trainer = Trainer(
        small_model(),
        tiny_source(MATERIAL),
        config(epochs=1),
        ObjectiveConfig(),
        judge.hooks,
        tmp_path / "shown",
    )
    trainer.run(show_progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 1: rsum 3.0, best 3.0" in shown.err
