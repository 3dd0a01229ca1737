"""What parts of a model say of one pair: relations within and between both sides, chosen regions.

Only models that have such parts answer; `visavis.explain.attention` explains all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import ismethod
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.explain.attention import check_images, encode_rows, evaluating
from visavis.explain.explanation import Array
from visavis.explain.leave_out import Encode, real_regions
from visavis.explain.words import whole_words
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch

TOGETHER = "words_with_regions"

Side = Literal["regions", "words"]

# What looks, and what is looked at; words_with_regions is what both bring to a score together.
RELATIONS: dict[str, tuple[Side, Side]] = {
    "regions_regions": ("regions", "regions"),
    "words_words": ("words", "words"),
    "regions_words": ("regions", "words"),
    "words_regions": ("words", "regions"),
    TOGETHER: ("words", "regions"),
}


@runtime_checkable
class Relational(Protocol):
    """A model in which regions and words look at each other and among themselves."""

    def relations(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """Some of `RELATIONS` for aligned rows, such as `words_regions`: (P, W, R)."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A model with parts that choose regions."""

    def selected(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """For each part the regions that it chose, for aligned rows: (P, R) bool."""
        ...


def is_relational(model: object) -> bool:
    """Whether a model is `Relational`: layers of that name are no answer."""
    return isinstance(model, Relational) and ismethod(model.relations)


def is_selective(model: object) -> bool:
    """Whether a model is `Selective`."""
    return isinstance(model, Selective) and ismethod(model.selected)


@torch.inference_mode()
def relations(
    pretrained: Pretrained, image: ImageBatch, text: str, *, encode: Encode | None = None
) -> dict[str, Array]:
    """How much every region and word of a pair looks at every other, by name of `RELATIONS`.

    A word that looks and was cut into pieces gets the mean of theirs; one that is looked at gets
    their sum, so that rows add up to what they were.

    Args:
        pretrained: a model that is `Relational`.
        image: one image, with boxes.
        text: one sentence.
        encode: as for `visavis.explain.attention.explain`.

    Raises:
        DataError: a model without relations, vectors without boxes, or a relation of no known name.
    """
    if not is_relational(pretrained.model):
        raise DataError(f"{pretrained.name} has no relations among regions and words to show")
    check_images(image, [text])
    sentence = (encode or pretrained.tokenizer.encode)([text])
    with evaluating(pretrained.model) as model:
        encoded = encode_rows(model, image, sentence)
        found = cast("Relational", model).relations(*encoded)
    regions, _ = real_regions(image, 0)
    _, pieces = whole_words(pretrained.tokenizer.tokens(text))
    tokens = sentence.mask[0].cpu().numpy()
    kept = {"regions": np.flatnonzero(regions), "words": np.flatnonzero(tokens)}
    joined: dict[str, Array] = {}
    for name, weights in found.items():
        if name not in RELATIONS:
            raise DataError(f"relation {name!r} is not known; known: {', '.join(RELATIONS)}")
        rows, columns = RELATIONS[name]
        values = weights[0].float().cpu().numpy()[np.ix_(kept[rows], kept[columns])]
        if rows == "words":
            values = np.stack([values[place].mean(axis=0) for place in pieces])
        if columns == "words":
            values = np.stack([values[:, place].sum(axis=1) for place in pieces], axis=1)
        joined[name] = values.astype(np.float32)
    return joined


@torch.inference_mode()
def selected(
    pretrained: Pretrained, image: ImageBatch, text: str, *, encode: Encode | None = None
) -> dict[str, NDArray[np.int64]]:
    """The regions that each part of a model chose for a pair, as positions in its boxes.

    Args:
        pretrained: a model that is `Selective`.
        image: one image, with boxes.
        text: one sentence.
        encode: as for `visavis.explain.attention.explain`.

    Raises:
        DataError: a model whose parts choose no regions, or vectors without boxes.
    """
    if not is_selective(pretrained.model):
        raise DataError(f"{pretrained.name} has no part that chooses regions; show words instead")
    check_images(image, [text])
    with evaluating(pretrained.model) as model:
        sentence = (encode or pretrained.tokenizer.encode)([text])
        encoded = encode_rows(model, image, sentence)
        found = cast("Selective", model).selected(*encoded)
    regions, _ = real_regions(image, 0)
    return {name: np.flatnonzero(_row(chosen)[regions]) for name, chosen in found.items()}


def _row(chosen: Tensor) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", chosen[0].cpu().numpy())
