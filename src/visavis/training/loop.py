"""The training loop. It knows a matcher, a source of pairs and a way to validate; no paper."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from visavis.errors import CheckpointError, DataError, TrainingError
from visavis.training.augment import drop_regions, drop_words
from visavis.training.average import Average
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
from visavis.training.position import Position, Result
from visavis.training.progress import Progress
from visavis.types import ImageBatch, SentenceBatch

logger = logging.getLogger("visavis.training")


class Source(Protocol):
    """Where training pairs come from."""

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int) -> Tensor:
        """A row for each pair in the order of an epoch: whatever `read` needs to read it."""
        ...

    def read(self, pairs: list[Any]) -> tuple[ImageBatch, SentenceBatch, Tensor]:
        """Images, sentences and positives of some rows of an order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a run does besides stepping."""

    validate: Callable[[nn.Module], Mapping[str, float]]  # must give `rsum`
    save_best: Callable[[nn.Module, Mapping[str, float]], None]  # writes a loadable model folder
    stage: str = ""  # its name in the log, when the run is one of several that follow each other


def make_accelerator() -> Accelerator:
    """What joins the processes of a run.

    Precision and accumulation are the loop's own: the library keeps its settings once per process,
    where a second trainer could not choose others.
    """
    return Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())


def batches_per_epoch(source: Source, config: TrainConfig) -> int:
    """Whole batches of every process; a short last one would have easier negatives.

    Raises:
        DataError: the pairs do not fill a batch.
    """
    size: int = config.batch_size * make_accelerator().num_processes
    if len(source) < size:
        raise DataError(
            f"{len(source)} training pairs do not fill a batch of {size}; lower train.batch_size"
        )
    return len(source) // size


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
        self.accelerator = make_accelerator()
        self.batches_per_epoch = batches_per_epoch(source, config)
        steps_per_epoch = -(-self.batches_per_epoch // config.accumulate)
        objective_module = Objective(model, objective)
        optimizer = make_optimizer(config, objective_module.parameters())
        self.objective, self.optimizer = self.accelerator.prepare(objective_module, optimizer)
        self.schedule = make_schedule(config, optimizer, steps_per_epoch)
        self.watch = CollapseWatch(objective.level / 2)
        self.average = Average(self.model, config.average) if config.average else None
        self.position = Position()

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
                total,
                self._batches_done(),
                stage=self.hooks.stage,
                show=show_progress if main else False,
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
            losses, stepped = self._batch(order)
            position.batch += 1
            progress.advance(position.epoch, losses["loss"])
            position.add(losses)
            self._watch(losses["ranking"])
            if stepped:
                self._after_step(log)

    def _batch(self, order: Tensor) -> tuple[dict[str, float], bool]:
        """The loss of the next batch and its terms, and whether a step was made."""
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
                terms: dict[str, Tensor] = self.objective(batch, self.position.epoch)
            loss = torch.stack(list(terms.values())).sum()
            self.accelerator.backward(loss / self._batches_in_step())
        losses = {name: value.item() for name, value in {"loss": loss, **terms}.items()}
        if not math.isfinite(losses["loss"]):
            raise TrainingError(
                f"the loss is {losses['loss']} after step {self.position.step}; lower train.lr or "
                "set train.precision to fp32, and train in a new folder"
            )
        if stepping:
            self._step()
        return losses, stepping

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

    def _watch(self, ranking: float) -> None:
        if self.watch.see(ranking, self.config.batch_size) and not self.position.collapsed:
            self.position.collapsed = True
            logger.warning(
                "the loss has stood at 2 * margin for %d batches: all scores have become equal; "
                "set objective.warmup_epochs to 1, lower train.lr, or take loss contrastive",
                self.watch.recent.maxlen,
            )

    def _after_step(self, log: RunLog) -> None:
        position = self.position
        position.step += 1
        if self.average is not None:
            self.average.update(self.model, position.step)
        if position.step % self.config.log_steps == 0:
            rate = float(self.schedule.get_last_lr()[0])
            log.write("train", position.step, {**self._place(), **position.means(), "lr": rate})
        # The end of an epoch is saved after its validation: resumed from a state before that, the
        # run would write the validation's line twice.
        ended = position.batch == self.batches_per_epoch
        if position.step % self.config.checkpoint_steps == 0 and not ended:
            self._save()

    def _validate(self, log: RunLog, progress: Progress) -> None:
        """Validate after an epoch, and keep the model when it is the best so far."""
        position, started = self.position, time.perf_counter()
        self.objective.eval()
        with nullcontext() if self.average is None else self.average.applied(self.model):
            metrics = dict(self.hooks.validate(self.model))
            rsum = metrics["rsum"]
            if rsum > position.best_rsum or self.config.keep == "last":
                position.best_rsum, position.best_epoch, position.stale = rsum, position.epoch, 0
                if self.accelerator.is_main_process:
                    self.hooks.save_best(self.model, metrics)
            else:
                position.stale += 1
        seconds = time.perf_counter() - started
        log.write("validation", position.step, {**self._place(), **metrics, "seconds": seconds})
        told = f"epoch {position.epoch + 1}: rsum {rsum:.1f}, best {position.best_rsum:.1f}"
        told = f"{self.hooks.stage}, {told}" if self.hooks.stage else told
        progress.say(told)
        logger.info(told)
        position.epoch, position.batch = position.epoch + 1, 0

    def _place(self) -> dict[str, int | str]:
        """What every line of the log begins with."""
        stage = {"stage": self.hooks.stage} if self.hooks.stage else {}
        return {**stage, "epoch": self.position.epoch}

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch, "lr": self.schedule.get_last_lr()},
            "position": asdict(self.position),
            "watch": list(self.watch.recent),
            "batches_per_epoch": self.batches_per_epoch,
            "random": random_state(),
        }
        if self.average is not None:
            state["average"] = self.average.values
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
            if self.average is not None:
                self.average.load(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{found[-1]}: the state of another model ({reason})") from error
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.schedule._last_lr = state["schedule"]["lr"]
        self.position = Position(**state["position"])
        self.watch.recent.extend(state["watch"])
        restore_random_state(state["random"])
        logger.info("resumed %s at step %d", found[-1], self.position.step)
