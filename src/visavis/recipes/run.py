"""Training a recipe in a folder, and measuring a model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visavis import __version__
from visavis.config import build, plain
from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity, Features
from visavis.errors import DataError, RecipeError
from visavis.evaluation.baseline import fit_baseline
from visavis.evaluation.evaluate import Evaluation, evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.evaluation.saved import load, save
from visavis.files import read_json, write_json
from visavis.metrics.ranks import ranks
from visavis.metrics.recall import recall_metrics
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Assembly, Material, assemble, pretrained_texts
from visavis.recipes.recipe import Recipe, save_recipe
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.scoring.matrix import score_matrix
from visavis.training.checkpoint import states
from visavis.training.loop import Hooks, Result, Trainer
from visavis.types import ImageBatch, Matcher, Scores

RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run gave."""

    result: Result
    evaluation: Evaluation
    folder: Path
    trained: bool  # False: the run had been finished before, nothing was left to do


def train(
    recipe: Recipe, material: Material, folder: Path, *, show_progress: bool | None = None
) -> Outcome:
    """Train a recipe in a run folder, or go on with the run that is there, and report.

    A run that is finished is reported as it was.

    Raises:
        RecipeError: the folder holds a run of another recipe or of other data.
        DataError: too few images for a batch or for the protocol.
    """
    assembly = assemble(recipe, material)
    make_protocol(recipe.data.protocol, assembly.report)  # refused now, not after hours of training
    trainer = Trainer(
        assembly.pretrained.model,
        assembly.source,
        recipe.train,
        recipe.objective,
        _hooks(recipe, assembly, folder),
        folder,
    )
    _claim(folder, recipe, assembly)
    finished = _finished(folder)
    if finished is not None:
        return finished
    result = trainer.run(show_progress=show_progress)
    best = Pretrained.from_pretrained(folder / "best")
    reported = Material(assembly.report, material.features)
    evaluation = measure(best, reported, recipe.data.protocol, name=folder.resolve().name)
    evaluation = replace(evaluation, details={**evaluation.details, "training": plain(result)})
    save(evaluation, folder / RESULTS)
    return Outcome(result, evaluation, folder, trained=True)


def _finished(folder: Path) -> Outcome | None:
    """What a run gave that was trained to its end: only such a one has results of its own."""
    if not (folder / RESULTS).is_file() or not (folder / "best").is_dir():
        return None
    evaluation = load(folder / RESULTS)
    if "training" not in evaluation.details:  # another evaluation was written over them
        return None
    result = build(Result, evaluation.details["training"], "training")
    return Outcome(result, evaluation, folder, trained=False)


def _hooks(recipe: Recipe, assembly: Assembly, folder: Path) -> Hooks:
    features = assembly.material.features
    scorer = scorer_of(assembly.pretrained, features)

    def validate(model: nn.Module) -> Mapping[str, float]:
        corpus = assembly.selection
        return recall_metrics(ranks(scorer(corpus), corpus.pairs))

    def save_best(model: nn.Module, metrics: Mapping[str, float]) -> None:
        details = {
            "recipe": recipe.source,
            "corpus": recipe.data.corpus,
            "fingerprint": assembly.source.corpus.fingerprint(),
            "seed": recipe.train.seed,
            "metrics": dict(metrics),
        }
        replace(assembly.pretrained, model=model, details=details).save_pretrained(folder / "best")

    return Hooks(validate=validate, save_best=save_best)


def _claim(folder: Path, recipe: Recipe, assembly: Assembly) -> None:
    """Make a folder this run's own, or see that it is."""
    identity = {
        "recipe": plain(replace(recipe, source="", expected={})),  # they change no figure
        "training data": assembly.source.corpus.fingerprint(),
        "features": assembly.pretrained.features.digest,
        "tokenizer": assembly.pretrained.tokenizer.digest,
    }
    stamp = folder / "run.json"
    if stamp.exists():
        changed = _differences(read_json(stamp), identity)
        if changed and _begun(folder):
            shown = [key.removeprefix("recipe.") or "stamp" for key in changed[:3]]
            raise RecipeError(
                f"{folder}: holds another run (it differs in {', '.join(shown)}); "
                "give another --output, or remove the folder"
            )
        if not changed:
            return
    save_recipe(recipe, folder / "recipe.yaml")
    write_json(folder / "env.json", environment())
    write_json(stamp, identity)


def _begun(folder: Path) -> bool:
    """Whether a run left anything to lose; one that failed before its first state did not."""
    return bool(states(folder / "states")) or (folder / "best").exists()


def _differences(found: object, wanted: object) -> list[str]:
    """Where two nested mappings differ, as dotted keys; what only one of them has differs too."""
    ours, theirs = _flat(wanted), _flat(found)
    return [
        key
        for key in {**ours, **theirs}
        if (key in ours, ours.get(key)) != (key in theirs, theirs.get(key))
    ]


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {path: value}
    inner = [_flat(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
    return {key: item for part in inner for key, item in part.items()}


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


def scorer_of(
    pretrained: Pretrained,
    features: Features,
    *,
    scratch: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> Callable[[Corpus], Scores]:
    """Scores of a linked corpus by a model: every image with every sentence.

    Args:
        pretrained: put in evaluation mode while it scores.
        features: of the same identity that the model was trained on.
        scratch: a folder for matrices too large for memory.
        advance: told how many images have been scored.
    """
    model = pretrained.model

    def scores(corpus: Corpus) -> Scores:
        if not isinstance(model, Matcher) or corpus.rows is None:
            raise TypeError("a matcher and a linked corpus are needed")
        rows = corpus.rows
        device = next(model.parameters()).device  # training may have moved the model since
        training = model.training
        model.eval()
        images = encode_images(
            model, lambda part: features.read(rows[part]), len(rows), device=device
        )
        texts = pretrained_texts(pretrained, corpus.sentence_texts)
        sentences = encode_sentences(model, texts, device=device)
        found = score_matrix(model, images, sentences, folder=scratch, advance=advance)
        model.train(training)
        return found

    return scores


def measure(
    pretrained: Pretrained,
    material: Material,
    protocol: str,
    *,
    name: str,
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on a linked corpus under a protocol.

    Args:
        pretrained: the model.
        material: what it is measured on: all images and sentences of the corpus.
        protocol: a name in the table of protocols.
        name: of the run, as it stands in reports.
        scratch: a folder for matrices too large for memory.
        progress: told images done and images in all.

    Raises:
        DataError: features of another identity, or a protocol that the corpus does not fill.
    """
    features = material.features
    check_identity(pretrained, features)
    folds = make_protocol(protocol, material.corpus)
    total, done = sum(len(fold.image_ids) for fold in folds.folds), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return evaluate(
        scorer_of(pretrained, features, scratch=scratch, advance=advance),
        folds,
        name=name,
        details={"model": pretrained.name, "features": features.identity.digest, **environment()},
    )


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
