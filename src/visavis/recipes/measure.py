"""Measuring a model, or the linear baseline, on a linked corpus."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from visavis import __version__
from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity, Features
from visavis.errors import DataError
from visavis.evaluation.baseline import fit_baseline
from visavis.evaluation.evaluate import Evaluation, evaluate, evaluate_ranks
from visavis.evaluation.protocols import make_protocol
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.engine import Engine, ranker_of
from visavis.scoring.meter import Meter, total
from visavis.types import ImageBatch


def environment() -> dict[str, object]:
    """What a figure may depend on besides the recipe."""
    return {
        "visavis": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def measure(
    pretrained: Pretrained,
    material: Material,
    protocol: str,
    *,
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on a linked corpus under a protocol.

    Args:
        pretrained: the model.
        material: what it is measured on: all images and sentences of the corpus.
        protocol: a name in the table of protocols.
        name: of the run, as it stands in reports.
        progress: told images done and images in all.

    Raises:
        DataError: features of another identity, or a protocol that the corpus does not fill.
    """
    features = material.features
    check_identity(pretrained, features)
    folds = make_protocol(protocol, material.corpus)
    images, done = sum(len(fold.image_ids) for fold in folds.folds), 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, images)

    engine = Engine(advance=advance)
    meter = Meter(engine.block)
    found = evaluate_ranks(
        ranker_of(pretrained, features, engine=engine, meter=meter),
        folds,
        name=name,
        details={"model": pretrained.name, "features": features.identity.digest, **environment()},
    )
    return replace(found, scoring=total([meter]))


def measure_baseline(material: Material, corpus: Corpus, protocol: str) -> Evaluation:
    """Fit the bag-of-words baseline on the train split and evaluate it like a model.

    Args:
        material: the whole corpus.
        corpus: the part of it that is measured.
        protocol: a name in the table of protocols.
    """
    baseline = fit_baseline(material.corpus.split("train"), _ByRow(material.features))
    return evaluate(baseline, make_protocol(protocol, corpus), name="bag of words")


@dataclass(frozen=True, slots=True)
class _ByRow:
    """Features of a linked corpus without their names: only its rows tell what belongs to what."""

    features: Features

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.dim

    @property
    def identity(self) -> FeatureIdentity:
        return self.features.identity

    @property
    def ids(self) -> None:
        return None

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        return self.features.read(rows)


def check_identity(pretrained: Pretrained, features: Features) -> None:
    """Refuse vectors that are not of the kind the model was trained on.

    Raises:
        DataError: another extractor, other options or other weights.
    """
    ours, theirs = pretrained.features, features.identity
    if (ours.extractor, ours.digest) != (theirs.extractor, theirs.digest):
        raise DataError(
            f"the model reads vectors of {ours.extractor} ({ours.digest}), "
            f"these are of {theirs.extractor} ({theirs.digest}); give those it was trained on"
        )
