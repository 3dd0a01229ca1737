"""A student: one vector of a picture and one of a sentence, made of a matcher's own tokens.

A matcher that compares regions with words pools nothing. Its student reads the tokens that it has
made of both sides, so nothing is encoded twice: learned queries look at the tokens, each gives a
mean of them, and one matrix makes a unit vector of all these means. `visavis.search.distill` fits
it, so that inner products order pictures nearly as the matcher's scores do.

Several attended means of one sequence: Lin et al., A Structured Self-attentive Sentence Embedding,
ICLR 2017; here one of them is the plain mean, and attention has no hidden layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visavis import __version__
from visavis.config import build, plain
from visavis.errors import CheckpointError, DataError, IndexError_, RecipeError
from visavis.files import atomic_path, read_json, write_json
from visavis.models.identity import digest_of
from visavis.models.pretrained import load_weights, save_weights
from visavis.search.answers import Direction
from visavis.search.encoder import absolute
from visavis.search.manifest import ModelPlace
from visavis.types import Encoded

STUDENT = "student"
FILE, WEIGHTS = "student.json", "model.safetensors"
FORMAT = 1
BOTH = "both"  # the one tower of a matcher that scores both directions alike


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Sizes of a student."""

    image_width: int  # of the matcher's tokens
    sentence_width: int
    heads: int = 8  # means of the tokens, the plain one among them
    dim: int = 512  # of a vector
    towers: tuple[str, ...] = (BOTH,)  # or one for each direction

    def __post_init__(self) -> None:
        if self.heads < 2 or min(self.image_width, self.sentence_width, self.dim) < 1:
            raise ValueError("a student needs at least 2 heads and widths of at least 1")
        if self.towers not in ((BOTH,), ("t2i", "i2t")):
            raise ValueError(f"towers {self.towers}; there is one for both directions or two")


class Pool(nn.Module):
    """Tokens of an item to a unit vector."""

    scale: Tensor

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.look = nn.Linear(width, heads - 1)
        self.join = nn.Linear(heads * width, dim)
        self.register_buffer("scale", torch.ones(()))  # mean length of a token
        nn.init.normal_(self.look.weight, std=2 * width**-0.5)  # queries that differ from the start

    def forward(self, items: Encoded) -> Tensor:
        """(N, P), each row of length 1."""
        mask = items.mask.unsqueeze(2)
        tokens = items.tokens.float() / self.scale
        logits = self.look(tokens)
        # A finite number: an item without a token shall not become NaN.
        attended = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1) * mask
        equal = mask / mask.sum(dim=1, keepdim=True).clamp_min(1)
        weights = torch.cat([equal, attended], dim=2)  # (N, L, heads)
        means = torch.bmm(weights.transpose(1, 2), tokens)  # (N, heads, D)
        return normalize(self.join(means.flatten(1)), dim=1)


class Tower(nn.Module):
    """Both sides of a direction, or of both directions."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.images = Pool(config.image_width, config.heads, config.dim)
        self.sentences = Pool(config.sentence_width, config.heads, config.dim)

    def forward(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Inner products: (N, M)."""
        products: Tensor = self.images(images) @ self.sentences(sentences).T
        return products


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What an index takes of a student for one direction."""

    tower: Tower
    place: ModelPlace

    @torch.inference_mode()
    def images(self, encoded: Encoded) -> Tensor:
        """Images that the matcher encoded: (N, P) on the CPU."""
        found: Tensor = self.tower.images(encoded)
        return found.cpu()

    @torch.inference_mode()
    def sentences(self, encoded: Encoded) -> Tensor:
        """Sentences that the matcher encoded: (M, P) on the CPU."""
        found: Tensor = self.tower.sentences(encoded)
        return found.cpu()


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """Towers, and the matcher that they were distilled from."""

    config: StudentConfig
    towers: nn.ModuleDict
    teacher: ModelPlace
    details: Mapping[str, Any] = field(default_factory=dict)  # settings, what held-out images say

    @property
    def digest(self) -> str:
        """A hash of weights, sizes and teacher, wherever the folder lies."""
        return digest_of([STUDENT, plain(self.config), self.teacher.digest], self.towers)

    def part(self, direction: Direction, source: str) -> Part:
        """What serves a direction.

        Args:
            direction: that is searched.
            source: the folder of the student.
        """
        tower = named_towers(self.towers)[self.tower_of(direction)]
        place = ModelPlace(source=absolute(source), name=STUDENT, digest=self.digest)
        return Part(tower, place)

    def tower_of(self, direction: Direction) -> str:
        """The name of the tower that serves a direction."""
        return BOTH if BOTH in self.config.towers else direction

    def save(self, folder: Path) -> None:
        """Write a folder atomically.

        Raises:
            StorageError: the disk is full; what stood at `folder` is untouched.
        """
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            save_weights(self.towers, temporary / WEIGHTS)
            values = {
                "format": FORMAT,
                "visavis": __version__,
                "config": plain(self.config),
                "teacher": plain(self.teacher),
                "details": plain(self.details),
            }
            write_json(temporary / FILE, values)

    @staticmethod
    def load(folder: Path, *, device: torch.device | str = "cpu") -> Student:
        """Read a folder that `save` wrote.

        Raises:
            CheckpointError: it is damaged, or of a newer format.
        """
        place = folder / FILE
        try:
            values = read_json(place)
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise CheckpointError(f"{place}: not a student of format {FORMAT}; distill it anew")
            config = build(StudentConfig, values["config"], "config")
            teacher = build(ModelPlace, values["teacher"], "teacher")
            details = dict(values["details"])
            towers = new_towers(config)
        except DataError as error:
            raise CheckpointError(f"{error}; distill it anew") from error
        except (RecipeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{place}: damaged ({error}); distill it anew") from error
        load_weights(towers, folder / WEIGHTS)
        towers.to(device).eval()
        return Student(config, towers, teacher, details)


def new_towers(config: StudentConfig) -> nn.ModuleDict:
    """Untrained towers."""
    return nn.ModuleDict({name: Tower(config) for name in config.towers})


def named_towers(towers: nn.ModuleDict) -> dict[str, Tower]:
    """The towers with the type that they have."""
    return {name: tower for name, tower in towers.items() if isinstance(tower, Tower)}


def is_student(source: str) -> bool:
    """Whether a student lies in a folder, and no model."""
    return (Path(source).expanduser() / FILE).is_file()


def refuse_other_teacher(source: str, student: Student, model: ModelPlace) -> None:
    """Compare the matcher that a student was distilled from and the one that it shall serve.

    Raises:
        IndexError_: they are not the same.
    """
    taught = student.teacher
    if taught.digest != model.digest:
        raise IndexError_(
            f"{source}: distilled from {taught.name} {taught.digest[:12]} ({taught.source}), not "
            f"from {model.name} {model.digest[:12]} ({model.source}); give that model, or distill "
            "a student of this one with `visavis distill`"
        )
