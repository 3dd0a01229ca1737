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
from visavis.data.feature_files import open_features
from visavis.data.features import FeatureIdentity, Features, MemoryFeatures
from visavis.data.open import recognise
from visavis.data.store import FeatureStore
from visavis.data.tokenizer import WordTokenizer
from visavis.errors import DataError
from visavis.extract.pictures import list_pictures, load_picture
from visavis.extract.run import extract_folder
from visavis.extract.table import from_identity
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, cache_root, open_folder, pretrained_texts
from visavis.recipes.measure import check_identity
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.search.find import Hit, find_images, find_sentences
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Encoded pictures with their files and their region vectors."""

    pretrained: Pretrained
    ids: tuple[str, ...]
    pictures: tuple[Path | None, ...]
    features: Features
    rows: NDArray[np.int64]  # row in the features of each picture
    encoded: Encoded
    skipped: tuple[str, ...] = ()  # why pictures that lie there are not in it, one reason each

    @property
    def matcher(self) -> Matcher:
        """The model that encoded the pictures."""
        return cast("Matcher", self.pretrained.model)

    def search(self, sentence: str, k: int) -> list[Hit]:
        """The `k` pictures that fit a sentence best."""
        return find_images(self.matcher, self.encoded, encode_texts(self.pretrained, [sentence]), k)

    def regions(self, hits: Sequence[Hit]) -> ImageBatch:
        """Region vectors and boxes of some hits, for explanations."""
        return self.features.read(self.rows[[hit.index for hit in hits]])


def encode_texts(pretrained: Pretrained, texts: Sequence[str]) -> Encoded:
    """Sentences as the model's token vectors."""
    device = next(pretrained.model.parameters()).device
    model = cast("Matcher", pretrained.model)
    return encode_sentences(model, pretrained_texts(pretrained, texts), device=device)


def sentence_batch(pretrained: Pretrained, texts: Sequence[str]) -> SentenceBatch:
    """Sentences as the model reads them, hidden states of its language model included."""
    return pretrained_texts(pretrained, texts).read(np.arange(len(texts)))


def unknown_words(pretrained: Pretrained, sentence: str) -> list[str]:
    """Words that the model never saw in training: they say nothing to it."""
    tokenizer = pretrained.tokenizer
    if not isinstance(tokenizer, WordTokenizer):  # word pieces spell every word
        return []
    pairs = zip(tokenizer.tokens(sentence), tokenizer.numbers(sentence), strict=True)
    return [word for word, number in pairs if number == tokenizer.vocabulary.unk]


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

    Pictures that are new or have changed since are extracted now. Vectors that were ready-made for
    a corpus are found beside its pictures.

    Args:
        pretrained: the model.
        folder: pictures, in folders below it too.
        weights: the folder of the extractor's weights.
        features: a store that `visavis extract` wrote for the folder, instead of the cache.
        workers: pictures that are looked at side by side.

    Raises:
        DataError: no pictures, or a model whose vectors no extractor here can make.
    """
    if pretrained.features.extractor == "precomputed":
        around = _corpus_around(folder, features)
        return corpus_gallery(pretrained, around.corpus, around.features)
    paths = list_pictures(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    if features is not None:
        return _stored_gallery(pretrained, paths, names, open_features(features))
    keys = [_stamped(name, path) for name, path in zip(names, paths, strict=True)]
    store = cache_folder(folder, pretrained.features)
    missing = _missing(keys, store)
    if missing:
        extractor = from_identity(pretrained.features, weights)
        new = [paths[i] for i in missing]
        extract_folder(new, [keys[i] for i in missing], extractor, store, workers=workers)
    found = FeatureStore(store)
    gallery = _stored_gallery(pretrained, paths, keys, found)
    name_of = dict(zip(keys, names, strict=True))
    return replace(
        gallery,
        ids=tuple(name_of[key] for key in gallery.ids),
        skipped=tuple(found.skipped[key] for key in keys if key in found.skipped),
    )


def _missing(keys: Sequence[str], store: Path) -> list[int]:
    """Pictures of which nothing is known; one that could not be decoded is known to be so."""
    try:
        found = FeatureStore(store)
    except DataError:  # none yet, or one that was left unfinished: its writer knows what it holds
        return list(range(len(keys)))
    known = {*found.ids, *found.skipped}
    return [i for i, key in enumerate(keys) if key not in known]


def _stamped(name: str, path: Path) -> str:
    """A name that changes with the file, so that a new picture under an old name is seen."""
    found = path.stat()
    return f"{name}?{found.st_size}-{found.st_mtime_ns}"


def _stored_gallery(
    pretrained: Pretrained, paths: Sequence[Path], names: Sequence[str], features: Features
) -> Gallery:
    """Those pictures that have region vectors under their names."""
    check_identity(pretrained, features)
    row_of = {name: row for row, name in enumerate(features.ids or ())}
    kept = [i for i, name in enumerate(names) if name in row_of]
    if not kept:
        raise DataError(f"{paths[0].parent}: none of the {len(paths)} pictures has region vectors")
    rows = np.array([row_of[names[i]] for i in kept], dtype=np.int64)
    gallery = _gallery(
        pretrained, [names[i] for i in kept], [paths[i] for i in kept], features, rows
    )
    left_out = tuple(
        f"{paths[i]}: no region vectors" for i in sorted({*range(len(names))} - {*kept})
    )
    return replace(gallery, skipped=left_out)


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
        around = _corpus_around(picture.parent, features)
        for i, path in enumerate(around.corpus.pictures or ()):
            if path is not None and path.resolve() == picture.resolve():
                return corpus_gallery(pretrained, around.corpus.select([i]), around.features)
        raise DataError(f"{picture}: the corpus has no ready-made vectors for this picture")
    extractor = from_identity(pretrained.features, weights)
    (regions,) = extractor.extract([load_picture(picture)])
    vectors, boxes = torch.from_numpy(regions.vectors), torch.from_numpy(regions.boxes)
    mask = torch.ones(1, len(vectors), dtype=torch.bool)
    batch = ImageBatch(vectors[None].float(), mask, boxes[None])
    found = MemoryFeatures(batch, pretrained.features)
    return _gallery(pretrained, [picture.name], [picture], found, np.zeros(1, dtype=np.int64))


def _corpus_around(folder: Path, features: Path | None) -> Material:
    """The images of a corpus whose pictures lie in a folder."""
    above = folder.parent if folder.name not in ("", "..") else folder.resolve().parent
    for candidate in (folder, above):
        if recognise(candidate) is not None:
            material = open_folder(candidate, features=features)
            corpus = material.corpus
            inside = [
                i
                for i, path in enumerate(corpus.pictures or ())
                if path is not None and path.resolve().is_relative_to(folder.resolve())
            ]
            if inside:
                return replace(material, corpus=corpus.select(inside))
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
