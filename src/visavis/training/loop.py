"""The training loop. It knows a matcher, a source of pairs and a way to validate; no paper."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from visavis.errors import CheckpointError, DataError, TrainingError
from visavis.training.augment import drop_regions, drop_words
from visavis.training.checkpoint import (
    load_state,
    random_state,
    restore_random_state,
    save_state,
    states,
)
from visavis.training.config import ObjectiveConfig, TrainConfig
from visavis.training.log import RunLog
from visavis.training.objective import Batch, CollapseWatch, Objective
from visavis.training.optimisation import fast_denormals, make_optimizer, make_schedule
from visavis.training.progress import Progress
from visavis.types import ImageBatch, SentenceBatch

logger = logging.getLogger("visavis.training")


class Source(Protocol):
    """Where training pairs come from."""

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int) -> Tensor:
        """Indices of all pairs in the order of an epoch."""
        ...

    def read(self, pairs: list[int]) -> tuple[ImageBatch, SentenceBatch, Tensor]:
        """Images, sentences and positives of some pairs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a run does besides stepping."""

    validate: Callable[[nn.Module], Mapping[str, float]]  # must give `rsum`
    save_best: Callable[[nn.Module, Mapping[str, float]], None]  # writes a loadable model folder


@dataclass(slots=True)
class _Position:
    """Where a run stands: everything that is not a tensor."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0  # optimiser steps in all
    best_rsum: float = -1.0
    best_epoch: int = -1
    stale: int = 0  # validations since the best one
    loss_sum: float = 0.0  # since the last line of the log
    loss_count: int = 0
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    best_rsum: float
    best_epoch: int
    epochs: int
    steps: int
    stopped_early: bool
    collapsed: bool


class Trainer:
    """Trains one model in one folder; called again on the same folder, it goes on where it was."""

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        config: TrainConfig,
        objective: ObjectiveConfig,
        hooks: Hooks,
        folder: Path,
    ) -> None:
        self.config, self.hooks, self.folder, self.source = config, hooks, folder, source
        # Precision and accumulation are this loop's own: the library keeps its settings once per
        # process, where a second trainer could not choose others.
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.batches_per_epoch = self._batches_per_epoch()
        steps_per_epoch = -(-self.batches_per_epoch // config.accumulate)
        objective_module = Objective(model, objective)
        optimizer = make_optimizer(config, objective_module.parameters())
        self.objective, self.optimizer = self.accelerator.prepare(objective_module, optimizer)
        self.schedule = make_schedule(config, optimizer, steps_per_epoch)
        self.watch = CollapseWatch(objective.margin)
        self.position = _Position()

    def _batches_per_epoch(self) -> int:
        size: int = self.config.batch_size * self.accelerator.num_processes
        if len(self.source) < size:
            raise DataError(
                f"{len(self.source)} training pairs do not fill a batch of {size}; "
                "lower train.batch_size"
            )
        return len(self.source) // size  # a short last batch would have easier negatives

    @property
    def model(self) -> nn.Module:
        """The model being trained."""
        unwrapped: Objective = self.accelerator.unwrap_model(self.objective)
        return unwrapped.model

    def run(self, *, show_progress: bool | None = None) -> Result:
        """Train to the end, or until validations stop getting better."""
        self._resume()
        total = self.config.epochs * self.batches_per_epoch
        main = self.accelerator.is_main_process  # the others neither write nor show anything
        with (
            fast_denormals(),
            RunLog(self.folder if main else None, after_step=self.position.step) as log,
            Progress(
                total, self._batches_done(), show=show_progress if main else False
            ) as progress,
        ):
            while self.position.epoch < self.config.epochs and not self._stopped():
                self._epoch(log, progress)
                self._validate(log, progress)
                self._save()
        self.accelerator.wait_for_everyone()  # the best model is on disk for all of them
        position = self.position
        return Result(
            best_rsum=position.best_rsum,
            best_epoch=position.best_epoch,
            epochs=position.epoch,
            steps=position.step,
            stopped_early=self._stopped() and position.epoch < self.config.epochs,
            collapsed=position.collapsed,
        )

    def _stopped(self) -> bool:
        """Whether so many validations in a row were no better; a state on disk tells it too."""
        return 0 < self.config.patience <= self.position.stale

    def _batches_done(self) -> int:
        return self.position.epoch * self.batches_per_epoch + self.position.batch

    def _epoch(self, log: RunLog, progress: Progress) -> None:
        position = self.position
        order = self.source.order(self.config.seed, position.epoch)
        self.objective.train()
        while position.batch < self.batches_per_epoch:
            loss, stepped = self._batch(order)
            position.batch += 1
            progress.advance(position.epoch, loss)
            self._watch(loss)
            if stepped:
                self._after_step(log)

    def _batch(self, order: Tensor) -> tuple[float, bool]:
        size = self.config.batch_size
        world = self.accelerator.num_processes
        start = (self.position.batch * world + self.accelerator.process_index) * size
        pairs = order[start : start + size].tolist()
        images, sentences, positives = self.source.read(pairs)
        batch = Batch(
            drop_regions(images, self.config.drop_regions),
            drop_words(sentences, self.config.drop_words),
            positives,
        ).to(self.accelerator.device)
        last = self.position.batch + 1 == self.batches_per_epoch
        stepping = last or (self.position.batch + 1) % self.config.accumulate == 0
        # Gradients are exchanged between processes only when a step follows.
        exchange = nullcontext() if stepping else self.accelerator.no_sync(self.objective)
        with exchange:
            with self._precision():
                loss = self.objective(batch, self.position.epoch)
            self.accelerator.backward(loss / self._batches_in_step())
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} after step {self.position.step}; lower train.lr or set "
                "train.precision to fp32, and train in a new folder"
            )
        if stepping:
            self._step()
        return value, stepping

    def _precision(self) -> torch.autocast:
        bf16 = self.config.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=bf16)

    def _batches_in_step(self) -> int:
        """Batches whose gradients make the step that this batch belongs to."""
        first = self.position.batch - self.position.batch % self.config.accumulate
        return min(self.config.accumulate, self.batches_per_epoch - first)

    def _step(self) -> None:
        if self.config.clip_norm > 0:
            self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def _watch(self, loss: float) -> None:
        position = self.position
        position.loss_sum += loss
        position.loss_count += 1
        if self.watch.see(loss, self.config.batch_size) and not position.collapsed:
            position.collapsed = True
            logger.warning(
                "the loss has stood at 2 * margin for %d batches: all scores have become equal; "
                "set objective.warmup_epochs to 1, or lower train.lr",
                self.watch.recent.maxlen,
            )

    def _after_step(self, log: RunLog) -> None:
        position = self.position
        position.step += 1
        if position.step % self.config.log_steps == 0:
            mean = position.loss_sum / position.loss_count
            rate = float(self.schedule.get_last_lr()[0])
            log.write("train", position.step, {"epoch": position.epoch, "loss": mean, "lr": rate})
            position.loss_sum, position.loss_count = 0.0, 0
        # The end of an epoch is saved after its validation: resumed from a state before that, the
        # run would write the validation's line twice.
        ended = position.batch == self.batches_per_epoch
        if position.step % self.config.checkpoint_steps == 0 and not ended:
            self._save()

    def _validate(self, log: RunLog, progress: Progress) -> None:
        """Validate after an epoch, and keep the model when it is the best so far."""
        position, started = self.position, time.perf_counter()
        self.objective.eval()
        metrics = dict(self.hooks.validate(self.model))
        rsum = metrics["rsum"]
        if rsum > position.best_rsum:
            position.best_rsum, position.best_epoch, position.stale = rsum, position.epoch, 0
            if self.accelerator.is_main_process:
                self.hooks.save_best(self.model, metrics)
        else:
            position.stale += 1
        seconds = time.perf_counter() - started
        log.write(
            "validation", position.step, {"epoch": position.epoch, **metrics, "seconds": seconds}
        )
        told = f"epoch {position.epoch + 1}: rsum {rsum:.1f}, best {position.best_rsum:.1f}"
        progress.say(told)
        logger.info(told)
        position.epoch, position.batch = position.epoch + 1, 0

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch, "lr": self.schedule.get_last_lr()},
            "position": {name: getattr(self.position, name) for name in _Position.__slots__},
            "watch": list(self.watch.recent),
            "batches_per_epoch": self.batches_per_epoch,
            "random": random_state(),
        }
        save_state(self.folder / "states", self.position.step, state, self.config.keep_states)

    def _resume(self) -> None:
        found = states(self.folder / "states")
        if not found:
            return
        state = load_state(found[-1])
        if state["batches_per_epoch"] != self.batches_per_epoch:
            raise CheckpointError(
                f"{found[-1]}: an epoch had {state['batches_per_epoch']} batches, now it has "
                f"{self.batches_per_epoch}; go on with the same data, batch size and processes"
            )
        try:
            self.model.load_state_dict(state["model"], strict=True)
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{found[-1]}: the state of another model ({reason})") from error
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.schedule._last_lr = state["schedule"]["lr"]
        self.position = _Position(**state["position"])
        self.watch.recent.extend(state["watch"])
        restore_random_state(state["random"])
        logger.info("resumed %s at step %d", found[-1], self.position.step)
