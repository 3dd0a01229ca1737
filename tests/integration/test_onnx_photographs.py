"""The `onnx` extractor with pretrained weights on real photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visavis.data.store import FeatureStore
from visavis.extract.base import Extractor
from visavis.extract.boxes import iou
from visavis.extract.pictures import load_picture
from visavis.extract.run import extract_folder
from visavis.extract.table import from_identity, make_extractor

pytestmark = [pytest.mark.photographs]
COUNT = 24


@pytest.fixture(scope="module")
def extractor(weights: Path) -> Extractor:
    return make_extractor("onnx", {}, weights)


@pytest.fixture(scope="module")
def images(photographs: Path) -> list[dict[str, Any]]:
    """Some photographs, spread evenly."""
    images = json.loads((photographs / "dataset_flickr8k.json").read_text())["images"]
    assert len(images) >= COUNT
    chosen: list[dict[str, Any]] = images[:: len(images) // COUNT][:COUNT]
    return chosen


def test_sure_detections_agree_with_stored_ones(
    photographs: Path, extractor: Extractor, images: list[dict[str, Any]]
) -> None:
    # The stored boxes are of the same detector on larger versions of the pictures: what it was
    # sure of there must be found here too.
    boxes = np.load(photographs / "boxes.npy", mmap_mode="r")
    scores = np.load(photographs / "box_scores.npy", mmap_mode="r")
    agreement = []
    for image in images:
        if scores[image["row"], 0] < 0.85:
            continue
        picture = load_picture(photographs / "images" / image["filename"])
        found = extractor.extract([picture])[0].boxes[:20]
        agreement.append(float(iou(np.asarray(boxes[image["row"], :1]), found).max()))
    assert len(agreement) >= 8
    assert np.mean(agreement) > 0.85


def test_vectors_tell_the_same_likeness_as_stored_ones(
    photographs: Path, extractor: Extractor, images: list[dict[str, Any]]
) -> None:
    # Stored vectors are made of this and another backbone, so only the order of likenesses of
    # whole pictures can be compared.
    rows = [image["row"] for image in images]
    grid = np.load(photographs / "regions_int8.npy", mmap_mode="r")[rows, 20:].astype(np.float32)
    stored = (grid * np.load(photographs / "regions_scale.npy")).mean(axis=1)
    pictures = [load_picture(photographs / "images" / image["filename"]) for image in images]
    own = np.stack([r.vectors[20:].mean(axis=0) for r in extractor.extract(pictures)])
    pairs = np.triu_indices(len(rows), k=1)
    likeness = [_cosines(vectors - vectors.mean(axis=0))[pairs] for vectors in (stored, own)]
    assert np.corrcoef(*likeness)[0, 1] > 0.6


def test_a_folder_becomes_a_store_that_its_identity_can_add_to(
    photographs: Path, weights: Path, images: list[dict[str, Any]], tmp_path: Path
) -> None:
    extractor = make_extractor("onnx", {}, weights)
    paths = [photographs / "images" / image["filename"] for image in images]
    names = [path.name for path in paths]
    report = extract_folder(paths, names, extractor, tmp_path, workers=2, progress=False)
    assert (report.extracted, report.skipped) == (COUNT, ())
    store = FeatureStore(tmp_path)
    assert (store.dim, store.max_regions) == (1280, 36)
    again = from_identity(store.identity, weights).extract([load_picture(paths[3])])[0]
    batch = store.read(np.array([3]))
    assert batch.boxes is not None
    np.testing.assert_array_equal(again.boxes, batch.boxes[0].numpy())
    np.testing.assert_allclose(again.vectors, batch.regions[0].numpy(), rtol=1e-3, atol=1e-3)


def _cosines(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[Any]]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    product: np.ndarray[Any, np.dtype[Any]] = unit @ unit.T
    return product
