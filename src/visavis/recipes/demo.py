"""The whole way on drawn pictures: scenes, regions, training, evaluation, search."""

from __future__ import annotations

import importlib.resources
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.data.open import link
from visavis.data.scenes import read_scenes, write_scenes
from visavis.data.scenes_world import SceneConfig
from visavis.data.store import FeatureStore
from visavis.evaluation.evaluate import Evaluation
from visavis.explain.pointing import Localisation
from visavis.extract.run import extract_folder
from visavis.extract.table import make_extractor
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.explained import PointingConfig, measure_pointing
from visavis.recipes.gallery import corpus_gallery
from visavis.recipes.measure import measure_baseline
from visavis.recipes.recipe import Recipe, load_recipe
from visavis.recipes.run import train
from visavis.recipes.sheets import example_sheet, write_sheet

# Shows a bar of some title while it is open; what it gives is told how much is done, of how much.
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made and found."""

    evaluation: Evaluation
    baseline: Evaluation
    pointing: Localisation
    sheets: tuple[Path, ...]
    seconds: dict[str, float]  # of each stage


class _Stages:
    """Says what is done and keeps how long it took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.say(f"{name} ...")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)


def run_demo(
    folder: Path,
    *,
    workers: int,
    say: Callable[[str], None],
    bar: Bar | None = None,
    recipe: Recipe | None = None,
    scenes: SceneConfig | None = None,
) -> Demo:
    """Do it all in a folder; called again, it does what is missing.

    Args:
        folder: where everything is written.
        workers: pictures that are looked at side by side.
        say: told what is begun.
        bar: a progress bar of some title.
        recipe: the one that comes with the package when None.
        scenes: how many scenes, and how they look.
    """
    recipe = recipe or demo_recipe()
    stages = _Stages(say)
    with stages("drawing scenes"):
        corpus = _scenes(folder / "scenes", scenes or SceneConfig(), bar)
    with stages("finding regions in every picture"):
        features = _regions(corpus, folder / "features", workers)
    material = Material(replace(corpus, rows=link(corpus, features)), features)
    test = material.corpus.split(recipe.data.report)
    with stages("training"):
        outcome = train(recipe, material, folder / "run")
    with stages("fitting the bag-of-words baseline"):
        baseline = measure_baseline(material, test, recipe.data.protocol)
    with stages("comparing attention with the truth and drawing what was found"):
        best = Pretrained.from_pretrained(folder / "run")
        part = Material(test, material.features)
        pointing = measure_pointing(best, part, folder / "scenes", PointingConfig()).all
        sheet = example_sheet(corpus_gallery(best, test, material.features), test)
        sheets = tuple(write_sheet(sheet, folder / name) for name in ("sheet.html", "sheet.png"))
    found = replace(outcome.evaluation, name=recipe.model_name)
    return Demo(found, baseline, pointing, sheets, stages.seconds)


def demo_recipe() -> Recipe:
    """The recipe that comes with the package."""
    shipped = importlib.resources.files("visavis.recipes") / "scan_scenes.yaml"
    with importlib.resources.as_file(shipped) as path:
        return load_recipe(path)


def _scenes(folder: Path, config: SceneConfig, bar: Bar | None) -> Corpus:
    if not (folder / "scenes.json").exists():
        with nullcontext() if bar is None else bar("drawing") as progress:
            write_scenes(folder, config, progress)
    return read_scenes(folder)


def _regions(corpus: Corpus, folder: Path, workers: int) -> Features:
    pictures = [path for path in corpus.pictures or () if path is not None]
    extractor = make_extractor("classic", {})
    extract_folder(pictures, corpus.image_ids, extractor, folder, workers=workers)
    return FeatureStore(folder)
