"""Mining with a trained model, for `visavis mine` and for stages with mined negatives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.data.negatives import Negatives, load_negatives, read_about
from visavis.errors import RecipeError
from visavis.mining.mine import Options, mine, partial_of
from visavis.mining.settings import POOLED, MineConfig, MiningConfig
from visavis.mining.sides import BLOCK, Pooled, Rescored, Sides, device_of, exhaustive
from visavis.models.identity import identity_of
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, pretrained_texts
from visavis.recipes.measure import check_identity
from visavis.scoring.stream import Tiles
from visavis.search.manifest import ModelPlace
from visavis.search.student import Student, is_student, refuse_other_teacher
from visavis.search.taught import Taught
from visavis.types import Matcher

EACH = 4  # candidates of a first step for each negative that is kept


def negatives_by(
    pretrained: Pretrained,
    material: Material,
    config: MineConfig,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Negatives:
    """The hardest negatives of a linked corpus by a model, mined into a file or read from it.

    Args:
        pretrained: the miner; put in evaluation mode.
        material: the corpus to mine in, linked to features of the kind the miner reads.
        config: lengths, and the first of two steps.
        path: the file; when it was mined so before, it is read.
        progress: told images done and images in all, for each step anew.

    Raises:
        DataError: features of another kind, scores that are NaN.
    """
    corpus = material.corpus
    check_identity(pretrained, material.features)
    first = _first(config, pretrained)
    about = {"miner": identity_of(pretrained), "first": "", "candidates": config.candidates}
    if first is not None:
        about["first"] = first.name
    lengths = MiningConfig(h=config.h, images=config.images)
    first_path = path.with_name(f"{path.stem}-first{path.suffix}")
    if path.is_file() and _same(read_about(path), about, lengths, corpus):
        _tidy(path)
        first_path.unlink(missing_ok=True)
        return load_negatives(path)
    options, candidates = Options(progress=progress), None
    if first is not None:
        candidates = _candidates(first, material, config, first_path, options)
    tiles = _tiles(pretrained, _matcher(pretrained), material, candidates)
    found = mine(tiles, corpus, lengths, path, about, options)
    first_path.unlink(missing_ok=True)
    return found


def _tidy(path: Path) -> None:
    """Remove what a run left that was killed after its file was written."""
    shutil.rmtree(partial_of(path), ignore_errors=True)


@dataclass(frozen=True, slots=True, eq=False)
class _First:
    """What finds candidates, cheaply."""

    name: object  # for what is said of the lists
    pretrained: Pretrained  # whose encoders are used
    model: Matcher
    about: Mapping[str, Any]


def _first(config: MineConfig, miner: Pretrained) -> _First | None:
    """The first of two steps: the miner's pooled vectors, its student, or another model.

    Raises:
        IndexError_: a student of another model.
    """
    if not config.first:
        return None
    who = identity_of(miner)
    if config.first == POOLED:
        about = {"miner": who, "pooled": True}
        return _First(POOLED, miner, Pooled(_matcher(miner)), about)
    if is_student(config.first):
        student = Student.load(Path(config.first).expanduser())
        place = ModelPlace(source=config.by, **who)
        refuse_other_teacher(config.first, student, place)
        about = {"miner": who, "student": student.digest}
        return _First(about, miner, Taught(_matcher(miner), student), about)
    other = Pretrained.from_pretrained(config.first)
    about = {"miner": identity_of(other), "pooled": False}
    return _First(about["miner"], other, _matcher(other), about)


def _matcher(pretrained: Pretrained) -> Matcher:
    """A model in evaluation mode."""
    pretrained.model.eval()
    if not isinstance(pretrained.model, Matcher):
        raise TypeError(f"{type(pretrained.model).__name__} does not follow the protocol")
    return pretrained.model


def _candidates(
    first: _First, material: Material, config: MineConfig, path: Path, options: Options
) -> Negatives:
    """What a cheap first step leaves to be scored; mined into a file that a killed run finds."""
    corpus, wide = material.corpus, _wide(config)
    check_identity(first.pretrained, material.features)
    if path.is_file() and _same(read_about(path), first.about, wide, corpus):
        _tidy(path)
        return load_negatives(path)
    tiles = _tiles(first.pretrained, first.model, material)
    return mine(tiles, corpus, wide, path, first.about, options)


def _wide(config: MineConfig) -> MiningConfig:
    wanted = config.candidates or EACH * config.h
    # As many times more images as sentences; without a number they follow from the sentences.
    images = -(-config.images * wanted // config.h)
    return MiningConfig(h=wanted, images=images)


def _same(
    found: Mapping[str, Any], about: Mapping[str, Any], lengths: MiningConfig, corpus: Corpus
) -> bool:
    wanted = {**about, "fingerprint": corpus.fingerprint(), "settings": plain(lengths)}
    # A file whose lists were limited afterwards is not what would be mined.
    same = all(found.get(key) == plain(value) for key, value in wanted.items())
    return same and "limits" not in found


def _tiles(
    pretrained: Pretrained,
    model: Matcher,
    material: Material,
    candidates: Negatives | None = None,
) -> Tiles:
    """Scores of a corpus by a model, of all pairs or of candidates; `pretrained` reads texts."""
    device = device_of(pretrained.model.parameters())
    texts = pretrained_texts(pretrained, material.corpus.sentence_texts)
    sides = Sides(material.corpus, material.features, texts, device)
    if candidates is None:
        return exhaustive(model, sides, BLOCK)
    return Rescored(model, sides, candidates, BLOCK)


def check_by(config: MineConfig, corpus: Corpus, features: Features, place: str) -> None:
    """Refuse a miner or a file that cannot be used, before anything is trained.

    Raises:
        RecipeError: neither a file nor a model.
        DataError: mined from another corpus, or a model of other features.
    """
    if config.kind == "file":
        load_negatives(Path(config.by)).check(corpus, config.by)
        return
    named = [config.by] if config.kind == "model" else []
    taught = is_student(config.first)
    if taught and not named:
        raise RecipeError(
            f"{place}.mine: {config.first} serves the model it was distilled from; name that in by"
        )
    other = config.first not in ("", POOLED) and not taught
    for name in [*named, config.first] if other else named:
        if not Path(name).exists() and "/" not in name:
            raise RecipeError(f"{place}.mine: {name!r} is neither a file nor a model here")
        check_identity(Pretrained.from_pretrained(name, device="cpu"), features)
