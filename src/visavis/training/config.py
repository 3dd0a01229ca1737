"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from visavis.losses.quintuplet import OfflineConfig


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimised."""

    loss: str = "hardest_hinge"  # a name in visavis.losses
    margin: float = 0.2
    temperature: float = 0.05  # contrastive
    warmup_epochs: int = 0  # of `warmup` first: hardest negatives alone can collapse
    warmup: str = "sum_hinge"  # a name in visavis.losses
    positives: Literal["ground_truth", "diagonal"] = "ground_truth"
    # diagonal: two sentences of one image are negatives of each other, as in the published code
    recompute: bool = False  # score blocks again in the backward pass instead of keeping them
    active_only: bool = False  # gradients through the pairs that move the loss; scores them twice
    offline: OfflineConfig = field(default_factory=OfflineConfig)  # mined negatives

    def __post_init__(self) -> None:
        _at_least(0, self, "margin", "warmup_epochs")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.active_only and (self.recompute or self.offline.used):
            raise ValueError("active_only goes neither with recompute nor with mined negatives")
        if self.offline.adaptive and self.loss not in ("sum_hinge", "hardest_hinge"):
            raise ValueError(f"adaptive_quintuplet weighs hinges; set loss to one, not {self.loss}")

    @property
    def level(self) -> float:
        """The ranking loss of a pair when all scores are equal; 0 when it cannot be told."""
        if not self.loss.startswith("hardest_hinge"):
            return 0.0
        return 2 * self.margin * (self.offline.beta if self.offline.adaptive else 1.0)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes."""

    name: Literal["constant", "step", "cosine", "warm_restarts"] = "step"
    warmup_steps: int = 0  # linear rise from zero
    step_epochs: int = 15  # step: epochs between drops
    gamma: float = 0.1  # step: factor of a drop
    restart_epochs: int = 5  # warm_restarts: length of the first cycle
    restart_growth: int = 2  # warm_restarts: each cycle is so many times as long
    floor: float = 0.0  # cosine, warm_restarts: lowest rate, as a share of the highest

    def __post_init__(self) -> None:
        _at_least(0, self, "warmup_steps", "gamma", "floor")
        _at_least(1, self, "step_epochs", "restart_epochs", "restart_growth")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 2e-4
    weight_decay: float = 0.0
    momentum: float = 0.0  # sgd
    nesterov: bool = False  # sgd: the gradient where momentum alone would lead
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip_norm: float = 2.0  # global L2 norm of the gradient; 0 turns clipping off
    accumulate: int = 1  # batches whose gradients are averaged for a step
    precision: Literal["fp32", "bf16"] = "fp32"
    average: float = 0.0  # decay of an average of the weights that is validated and kept; 0: off
    drop_regions: float = 0.0  # share of regions left out of each training image
    drop_words: float = 0.0  # share of words left out of each training sentence
    sentences_per_image: int = 1  # so many pairs of an image come together in a batch
    keep: Literal["best", "last"] = "best"  # the epoch whose weights are kept
    patience: int = 0  # stop after so many validations without a better rsum; 0: never
    seed: int = 0
    log_steps: int = 20  # steps between lines in metrics.jsonl
    checkpoint_steps: int = 500  # steps between training states; each epoch's end is one too
    keep_states: int = 2  # training states kept on disk

    def __post_init__(self) -> None:
        _at_least(1, self, "epochs", "accumulate", "log_steps")
        _at_least(1, self, "checkpoint_steps", "keep_states", "sentences_per_image")
        _at_least(2, self, "batch_size")  # a pair alone has no negatives
        _at_least(0, self, "weight_decay", "clip_norm", "patience", "seed")
        for name in ("drop_regions", "drop_words", "momentum", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.batch_size % self.sentences_per_image:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of sentences_per_image "
                f"{self.sentences_per_image}; change one"
            )
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if self.patience and self.keep == "last":
            raise ValueError("patience waits for a better epoch; set it to 0, or keep to best")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is of sgd; leave it out with {self.optimizer}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")


def _at_least(least: int, config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")
