"""Pictures to search in: a folder of pictures, or the images of a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity, Features, MemoryFeatures
from visavis.data.open import recognise
from visavis.data.store import FeatureStore
from visavis.errors import DataError
from visavis.extract.pictures import list_pictures, load_picture
from visavis.extract.run import extract_folder
from visavis.extract.table import from_identity
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import cache_root, open_material, pretrained_texts
from visavis.recipes.run import check_identity
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.search.find import Hit, find_images, find_sentences
from visavis.types import Encoded, ImageBatch, Matcher


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Encoded pictures with their files and their region vectors."""

    pretrained: Pretrained
    ids: tuple[str, ...]
    pictures: tuple[Path | None, ...]
    features: Features
    rows: NDArray[np.int64]  # row in the features of each picture
    encoded: Encoded

    @property
    def matcher(self) -> Matcher:
        """The model that encoded the pictures."""
        return cast("Matcher", self.pretrained.model)

    def search(self, sentence: str, k: int) -> list[Hit]:
        """The `k` pictures that fit a sentence best."""
        return find_images(self.matcher, self.encoded, encode_texts(self.pretrained, [sentence]), k)

    def select(self, row: int) -> Gallery:
        """One picture of the gallery."""
        one = slice(row, row + 1)
        return replace(
            self,
            ids=self.ids[one],
            pictures=self.pictures[one],
            rows=self.rows[one],
            encoded=self.encoded.select(one),
        )

    def regions(self, hits: Sequence[Hit]) -> ImageBatch:
        """Region vectors and boxes of some hits, for explanations."""
        return self.features.read(self.rows[[hit.index for hit in hits]])


def encode_texts(pretrained: Pretrained, texts: Sequence[str]) -> Encoded:
    """Sentences as the model's token vectors."""
    device = next(pretrained.model.parameters()).device
    model = cast("Matcher", pretrained.model)
    return encode_sentences(model, pretrained_texts(pretrained, texts), device=device)


def describe(gallery: Gallery, picture: int, sentences: Sequence[str], k: int) -> list[Hit]:
    """The `k` sentences that fit a picture of the gallery best."""
    image = gallery.encoded.select(slice(picture, picture + 1))
    return find_sentences(gallery.matcher, image, encode_texts(gallery.pretrained, sentences), k)


def corpus_gallery(pretrained: Pretrained, corpus: Corpus, features: Features) -> Gallery:
    """The images of a linked corpus."""
    check_identity(pretrained, features)
    if corpus.rows is None:
        raise TypeError("a linked corpus is needed")
    pictures = corpus.pictures or (None,) * len(corpus.image_ids)
    return _gallery(pretrained, corpus.image_ids, pictures, features, corpus.rows)


def folder_gallery(
    pretrained: Pretrained,
    folder: Path,
    weights: Path | None = None,
    *,
    features: Path | None = None,
    workers: int = 1,
) -> Gallery:
    """The pictures of a folder, their regions extracted once and kept in the cache.

    Vectors that were ready-made for a corpus are found beside its pictures.

    Raises:
        DataError: no pictures, or a model whose vectors no extractor here can make.
    """
    if pretrained.features.extractor == "precomputed":
        return _corpus_around(pretrained, folder, features)
    paths = list_pictures(folder)
    ids = [path.relative_to(folder).as_posix() for path in paths]
    extractor = from_identity(pretrained.features, weights)
    store = cache_folder(folder, pretrained.features)
    extract_folder(paths, ids, extractor, store, workers=workers)
    found = FeatureStore(store)
    row_of = found.row_of
    kept = [i for i, name in enumerate(ids) if name in row_of]
    if not kept:
        raise DataError(f"{folder}: none of its {len(paths)} pictures could be read")
    rows = np.array([row_of[ids[i]] for i in kept], dtype=np.int64)
    return _gallery(pretrained, [ids[i] for i in kept], [paths[i] for i in kept], found, rows)


def picture_gallery(
    pretrained: Pretrained,
    picture: Path,
    weights: Path | None = None,
    *,
    features: Path | None = None,
) -> Gallery:
    """One picture, its regions extracted now.

    Raises:
        DataError: a picture that cannot be read, or one without ready-made vectors.
    """
    if pretrained.features.extractor == "precomputed":
        around = _corpus_around(pretrained, picture.parent, features)
        for row, path in enumerate(around.pictures):
            if path is not None and path.resolve() == picture.resolve():
                return around.select(row)
        raise DataError(f"{picture}: no ready-made vectors for this picture")
    extractor = from_identity(pretrained.features, weights)
    (regions,) = extractor.extract([load_picture(picture)])
    vectors, boxes = torch.from_numpy(regions.vectors), torch.from_numpy(regions.boxes)
    mask = torch.ones(1, len(vectors), dtype=torch.bool)
    batch = ImageBatch(vectors[None].float(), mask, boxes[None])
    found = MemoryFeatures(batch, pretrained.features)
    return _gallery(pretrained, [picture.name], [picture], found, np.zeros(1, dtype=np.int64))


def _corpus_around(pretrained: Pretrained, folder: Path, features: Path | None) -> Gallery:
    for candidate in (folder, folder.parent):
        if recognise(candidate) is not None:
            material = open_material(candidate.name, candidate, features)
            corpus = material.corpus
            inside = [
                i
                for i, path in enumerate(corpus.pictures or ())
                if path is not None and path.resolve().is_relative_to(folder.resolve())
            ]
            if inside:
                return corpus_gallery(pretrained, corpus.select(inside), material.features)
    raise DataError(
        f"{folder}: the model reads ready-made vectors and there are none for these pictures; "
        "search the corpus they belong to, or train on vectors that `visavis extract` makes"
    )


def _gallery(
    pretrained: Pretrained,
    ids: Sequence[str],
    pictures: Sequence[Path | None],
    features: Features,
    rows: NDArray[np.int64],
) -> Gallery:
    model = pretrained.model
    encoded = encode_images(
        cast("Matcher", model),
        lambda part: features.read(rows[part]),
        len(rows),
        device=next(model.parameters()).device,
    )
    return Gallery(pretrained, tuple(ids), tuple(pictures), features, rows, encoded)


def cache_folder(folder: Path, identity: FeatureIdentity) -> Path:
    """Where the region vectors of a picture folder are kept."""
    name = hashlib.sha256(f"{folder.resolve()}\0{identity.digest}".encode()).hexdigest()[:16]
    return cache_root() / "regions" / name
