"""A picture as a query: one of the index, a file, or the bytes of a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from visavis.errors import DataError, IndexError_
from visavis.files import sha256_of
from visavis.search.answers import Answer, Direction
from visavis.search.cascade import Clock, Settings, filter_of, hit_of
from visavis.search.engine import parts_of
from visavis.search.pictures import picture_id
from visavis.search.rows import REAL, arrays_of, encoded_of
from visavis.search.supply import open_extractor, padded, spooled
from visavis.search.view import View
from visavis.types import Encoded, ImageBatch


@dataclass(frozen=True, eq=False)
class PictureQuery:
    """A picture that is asked with: a place in the index, or regions that were found now."""

    view: View
    place: int | None
    images: ImageBatch | None

    @cached_property
    def _encoded(self) -> Encoded:
        if self.place is not None:
            return self.view.encoded([self.place])
        if self.images is None:
            raise ValueError("neither a place nor regions")
        images = ImageBatch(self.images.regions.half().float(), self.images.mask, self.images.boxes)
        encoded = self.view.engine.main.images(images)
        # As rows are kept, so that a picture scores the same before and after it is added.
        kept = {name: torch.from_numpy(array) for name, array in arrays_of(encoded).items()}
        return encoded_of(kept, encoded.pooled)

    def encoded(self) -> Encoded:
        """By the model."""
        return self._encoded

    def vector(self, direction: Direction) -> Tensor | None:
        """(P,) for the first stage; None when there is none."""
        name = self.view.engine.space(direction)
        if name is None:
            return None
        if self.place is not None:
            return self.view.vectors(name, [self.place])[0]
        if self.images is None:
            raise ValueError("neither a place nor regions")
        space = self.view.engine.spaces[direction]
        return self.view.engine.image_vectors(self.images, self._encoded, space)[0]


def read_query(view: View, picture: Path | bytes | str) -> PictureQuery:
    """A picture to ask with. One whose content is in the index is not looked at again.

    Args:
        view: what is searched.
        picture: a file, the bytes of one, or the id of a picture in the index.

    Raises:
        DataError: it cannot be used.
        IndexError_: an unknown id.
    """
    if isinstance(picture, str):
        return PictureQuery(view, view.place(picture), None)
    if isinstance(picture, Path) and not picture.is_file():
        raise DataError(f"{picture}: no such picture")
    known = isinstance(picture, Path)
    digest = (
        sha256_of(picture) if isinstance(picture, Path) else hashlib.sha256(picture).hexdigest()
    )
    place = view.snapshot.place_of.get(picture_id(digest))
    if place is not None and view.snapshot.records[place].sha256 == digest:
        return PictureQuery(view, place, None)
    features = view.engine.main.features
    if features.extractor == "precomputed":
        raise DataError(
            "the model reads ready-made vectors and this picture has none: only pictures of the "
            "index can be asked with; build it with a model whose regions `visavis extract` makes"
        )
    weights = None if view.manifest.weights is None else Path(view.manifest.weights)
    supply = open_extractor(features, weights, device=str(view.engine.device))
    file = picture if isinstance(picture, Path) else spooled(picture)
    try:
        images = supply.one(file)
    except DataError as error:
        if known:
            raise
        raise DataError(str(error).replace(str(file), "the picture")) from None
    finally:
        if not known:
            file.unlink(missing_ok=True)
    regions = view.generation.arrays[REAL].shape[0]
    return PictureQuery(view, None, padded(images, regions))


def like(view: View, query: PictureQuery, asked: Path | bytes | str, settings: Settings) -> Answer:
    """The pictures whose first-stage vectors have the largest cosine with a picture's.

    A picture that is asked for by its id is not among its own answers.

    Raises:
        IndexError_: the index has no vectors of whole pictures.
    """
    name = view.engine.space("t2i")
    vector = query.vector("t2i")
    if name is None or vector is None:
        raise IndexError_(
            "pictures are compared by vectors of whole pictures and this index has none; build it "
            "with `--companion`"
        )
    clock = Clock()
    allowed = filter_of(view, settings.where, clock)
    places = (
        torch.arange(len(view.snapshot)) if allowed is None else torch.from_numpy(allowed.places)
    )
    if isinstance(asked, str) and query.place is not None:
        places = places[places != query.place]
    with clock.stage("first", [min(settings.k, len(places))]):
        parts = len(parts_of(view.engine.spaces["t2i"]))  # each of unit length
        cosines = view.vectors(name, places) @ vector / parts
        best = torch.sort(cosines, descending=True, stable=True).indices[: settings.k]
    hits = [
        hit_of(view, int(places[at]), rank, float(cosines[at]), float(cosines[at]))
        for rank, at in enumerate(best.tolist(), start=1)
    ]
    return Answer(
        query="",
        hits=tuple(hits),
        stages=tuple(clock.stages),
        exact=True,
        candidates=len(places),
        gallery=len(view.snapshot),
        matches_well=None,
    )
