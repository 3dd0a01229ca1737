"""The linear baseline on real photographs and sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity
from visavis.evaluation.baseline import fit_baseline
from visavis.evaluation.evaluate import evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.types import ImageBatch

DETECTOR, GRID_CELLS = slice(0, 20), slice(20, 36)


class QuantisedRegions:
    """Regions as they lie in the folder: int8 with a scale per component."""

    ids = None
    identity = FeatureIdentity(extractor="precomputed")

    def __init__(self, folder: Path) -> None:
        self._regions = np.load(folder / "regions_int8.npy", mmap_mode="r")
        self._scale = np.load(folder / "regions_scale.npy").astype(np.float32)
        self.dim = self._regions.shape[2]

    def __len__(self) -> int:
        return len(self._regions)

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        regions = torch.from_numpy(self._regions[rows].astype(np.float32) * self._scale)
        return ImageBatch(regions, torch.ones(regions.shape[:2], dtype=torch.bool))


def photograph_corpus(folder: Path) -> Corpus:
    images = json.loads((folder / "dataset_flickr8k.json").read_text())["images"]
    sentences = [(i, s) for i, image in enumerate(images) for s in image["sentences"]]
    return Corpus(
        name="flickr8k",
        image_ids=tuple(image["filename"] for image in images),
        image_splits=tuple(image["split"] for image in images),
        sentence_ids=tuple(str(sentence["sentid"]) for _, sentence in sentences),
        sentence_texts=tuple(sentence["raw"] for _, sentence in sentences),
        pairs=np.array([(owner, place) for place, (owner, _) in enumerate(sentences)]),
        rows=np.array([image["row"] for image in images]),
    )


@pytest.mark.slow
@pytest.mark.photographs
def test_the_baseline_reaches_what_is_known_of_linear_ones(photographs: Path) -> None:
    corpus = photograph_corpus(photographs)
    features = QuantisedRegions(photographs)
    baseline = fit_baseline(corpus.split("train"), features, groups=(DETECTOR, GRID_CELLS))
    protocol = make_protocol("1k", corpus.split("val"))
    found = evaluate(baseline, protocol, name="bag of words")
    assert found.metrics["rsum"] > 254.1  # a CCA of the same vectors, fitted elsewhere
    assert found.metrics["rsum"] < 300  # more would mean that val leaked into the fit
