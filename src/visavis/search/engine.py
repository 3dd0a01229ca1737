"""The models of an index: what is kept of pictures, and what sentences look for.

The first stage compares vectors. A vector has one part or two: what the model pools, or what a
companion pools, and for a model that pools nothing the mean of its tokens. A student makes one part
of the model's tokens, their mean included (`visavis.search.student`). Parts are of unit length in
the rows; how much each counts is told on the side of the query (`visavis.search.fit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from visavis.errors import IndexError_
from visavis.search.answers import Direction
from visavis.search.encoder import SENTENCES_AT_ONCE, Encoder
from visavis.search.manifest import (
    Generation,
    ModelPlace,
    refuse_other_features,
    refuse_other_model,
)
from visavis.search.rows import VECTOR, Arrays, arrays_of, region_arrays
from visavis.search.student import STUDENT, Part, Student, is_student, refuse_other_teacher
from visavis.types import Encoded, ImageBatch

OWN, COMPANION, MEAN = "own", "companion", "mean"
Companion = str | Path | Mapping[Direction, str | Path]  # for both directions, or for each


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The models that an index is built with, by folder or hub name."""

    model: str
    companions: Mapping[Direction, str]  # for the first stage, instead of the model's own vectors

    @staticmethod
    def of(model: str | Path, companion: Companion | None) -> ModelFiles:
        """From what a user gives."""
        if companion is None:
            return ModelFiles(str(model), {})
        if not isinstance(companion, Mapping):
            return ModelFiles(str(model), {"t2i": str(companion), "i2t": str(companion)})
        return ModelFiles(str(model), {key: str(path) for key, path in companion.items()})


class Engine:
    """The models of a generation."""

    def __init__(
        self,
        main: Encoder,
        companions: Mapping[str, Encoder | Part],
        spaces: Mapping[str, str],
        weights: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Use `open_engine` or `new_engine`."""
        self.main = main
        self.companions = dict(companions)  # by the part of the space that they make
        self.spaces = dict(spaces)  # direction: space, its parts joined by _
        self.weights = {key: tuple(value) for key, value in (weights or {}).items()}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.main.device

    def space(self, direction: Direction) -> str | None:
        """The array of first-stage vectors for a direction; None when there is none."""
        name = self.spaces.get(direction)
        return None if name is None else f"{VECTOR}{name}"

    @property
    def first_stage(self) -> str:
        """How the first stage is called: none, own, mean, or the companion's model."""
        parts = [part for name in self.spaces.values() for part in parts_of(name)]
        told = [self.companions[p].place.name if p in self.companions else p for p in parts]
        return ", ".join(dict.fromkeys(told)) or "none"

    def rows(self, images: ImageBatch) -> Arrays:
        """Everything that is kept of images: encoded, vectors of every space, region vectors."""
        # As they are kept: encoding stored regions again gives the very same rows.
        images = replace(images, regions=images.regions.half().float())
        encoded = self.main.images(images)
        made = {**arrays_of(encoded), **region_arrays(images)}
        for name in dict.fromkeys(self.spaces.values()):
            made[f"{VECTOR}{name}"] = self.image_vectors(images, encoded, name).numpy()
        return made

    def image_vectors(self, images: ImageBatch, encoded: Encoded, name: str) -> Tensor:
        """Images in a space: (N, P) on the CPU, each part of unit length."""
        parts = []
        for part in parts_of(name):
            other = self.companions.get(part)
            if isinstance(other, Part):
                parts.append(other.images(encoded))
            else:
                parts.append(_part(part, encoded if other is None else other.images(images)))
        return torch.cat(parts, dim=1)

    def sentence_vectors(
        self, texts: Sequence[str], direction: Direction, encoded: Encoded | None = None
    ) -> Tensor:
        """Sentences in the space of a direction: (M, P) on the CPU, each part of unit length.

        Args:
            texts: M sentences.
            direction: that is searched.
            encoded: the same sentences, where the main model has encoded them already.
        """
        if encoded is None and len(texts) > SENTENCES_AT_ONCE:
            starts = range(0, len(texts), SENTENCES_AT_ONCE)
            groups = [texts[start : start + SENTENCES_AT_ONCE] for start in starts]
            return torch.cat([self.sentence_vectors(group, direction) for group in groups])
        parts = []
        for part in parts_of(self.spaces[direction]):
            other = self.companions.get(part)
            if isinstance(other, Encoder):
                parts.append(_part(part, other.sentences(texts)))
                continue
            encoded = encoded or self.main.sentences(texts)
            parts.append(_part(part, encoded) if other is None else other.sentences(encoded))
        return torch.cat(parts, dim=1)

    def query_vectors(
        self, texts: Sequence[str], direction: Direction, encoded: Encoded | None = None
    ) -> Tensor:
        """Sentences that ask: as `sentence_vectors`, each part as heavy as was fitted."""
        return self.weighted(self.sentence_vectors(texts, direction, encoded), direction)

    def weighted(self, vectors: Tensor, direction: Direction) -> Tensor:
        """Vectors that ask (Q, P), each part as heavy as was fitted."""
        weights = self.weights.get(direction)
        if weights is None:
            return vectors
        parts = self.split(vectors, direction)
        return torch.cat([w * part for w, part in zip(weights, parts, strict=True)], dim=1)

    def split(self, vectors: Tensor, direction: Direction) -> list[Tensor]:
        """The parts of vectors (N, P)."""
        if len(parts_of(self.spaces[direction])) == 1:
            return [vectors]
        mean = self.main.width
        return [vectors[:, :-mean], vectors[:, -mean:]]

    def with_weights(self, weights: Mapping[str, Sequence[float]]) -> Engine:
        """The same models with other weights of the parts."""
        return Engine(self.main, self.companions, self.spaces, weights)

    def places(self) -> dict[str, ModelPlace]:
        """Where the companions are, by part."""
        return {name: other.place for name, other in self.companions.items()}


def new_engine(files: ModelFiles, *, device: str = "cpu") -> Engine:
    """The models of a new index.

    Raises:
        CheckpointError: one cannot be loaded.
        IndexError_: a companion without vectors, one that reads other region vectors, or a student
            of another model.
    """
    main = Encoder(files.model, device=device)
    loaded: dict[str, Encoder | Student] = {}  # by source
    names: dict[tuple[str, str], str] = {}  # part by source and tower
    companions: dict[str, Encoder | Part] = {}
    spaces: dict[str, str] = {}
    for direction in get_args(Direction):
        source = files.companions.get(direction)
        if source is None:
            parts = [OWN] if main.pools else [MEAN] if main.comparable else []
        else:
            if source not in loaded:
                loaded[source] = _companion(main, source, device)
            other = loaded[source]
            learnt = isinstance(other, Student)
            tower = other.tower_of(direction) if isinstance(other, Student) else ""
            number = len(names) or ""
            part = names.setdefault((source, tower), f"{STUDENT if learnt else COMPANION}{number}")
            companions[part] = (
                other.part(direction, source) if isinstance(other, Student) else other
            )
            # A student has looked at the mean of the tokens already.
            parts = [part] if main.pools or learnt or not main.comparable else [part, MEAN]
        if parts:
            spaces[direction] = "_".join(parts)
    return Engine(main, companions, spaces)


def _companion(main: Encoder, source: str, device: str) -> Encoder | Student:
    if is_student(source):
        student = Student.load(Path(source), device=device)
        refuse_other_teacher(source, student, main.place)
        return student
    other = Encoder(source, device=device)
    refuse_other_features(source, main.features, other.features)
    if not other.pools:
        raise IndexError_(
            f"{source}: {other.place.name} has no vector of a whole picture, so it cannot be "
            "the first stage of a search; give a run of a model that has, such as vse, or what "
            "`visavis distill` makes of the model itself"
        )
    return other


def parts_of(space: str) -> list[str]:
    """The parts of a space.

    >>> parts_of("companion_mean")
    ['companion', 'mean']
    """
    return space.split("_")


def open_engine(
    where: str, generation: Generation, *, model: str | None = None, device: str = "cpu"
) -> Engine:
    """The models that an index was built with.

    Args:
        where: the index, for messages.
        generation: what the index says of them.
        model: where the model lies now, when it was moved.
        device: where models are put.

    Raises:
        CheckpointError: a model is not where it was.
        IndexError_: a model that lies there is another one.
    """
    opened = Encoder(model or generation.model.source, device=device)
    refuse_other_model(where, generation.model, opened.place)
    others: dict[str, Encoder | Part] = {}
    for name, place in generation.companions.items():
        if place.name == STUDENT:
            student = Student.load(Path(place.source), device=device)
            served = [key for key, space in generation.spaces.items() if name in parts_of(space)]
            others[name] = student.part("t2i" if "t2i" in served else "i2t", place.source)
        else:
            others[name] = Encoder(place.source, device=device)
        refuse_other_model(where, place, others[name].place)
    return Engine(opened, others, generation.spaces, generation.weights)


def _part(part: str, encoded: Encoded) -> Tensor:
    """One part of vectors: (N, P) float32 on the CPU, of unit length."""
    if part != MEAN:
        if encoded.pooled is None:
            raise IndexError_("the model has no vector of a whole picture; give a companion")
        return encoded.pooled.float().cpu()
    mask = encoded.mask.unsqueeze(2)
    mean = (encoded.tokens.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    return normalize(mean, dim=1).cpu()
