"""A tiny corpus, a tiny model trained on it, and the command line as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from visavis.cli.main import main
from visavis.data.scenes import SceneConfig, read_scenes, write_scenes
from visavis.extract.run import extract_folder
from visavis.extract.table import make_extractor
from visavis.recipes.assemble import open_material
from visavis.recipes.recipe import load_recipe
from visavis.recipes.run import train

SCENES = SceneConfig(images=40, val=8, test=10, size=96)
RECIPE = """
source: a test
model: {name: scan, dim: 16, text: {word_dim: 8}}
data: {corpus: scenes}
tokenizer: {threshold: 1}
objective: {warmup_epochs: 1}
train: {epochs: 2, batch_size: 16, log_steps: 1}
"""


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output stream, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """The output stream, line by line."""
        return self.out.splitlines()


Visavis = Callable[..., Said]


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own: neither corpora nor weights nor a cache; a narrow terminal."""
    for name in ("VISAVIS_DATA", "VISAVIS_WEIGHTS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def visavis(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Visavis:
    """`visavis WORD ...` in this process: its exit code and both streams."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["visavis", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of corpora with one in it, `scenes`: 40 pictures with classic features."""
    root = tmp_path_factory.mktemp("data")
    corpus = write_scenes(root / "scenes", SCENES)
    pictures = [path for path in corpus.pictures or () if path is not None]
    store = root / "scenes" / "features"
    extract_folder(pictures, corpus.image_ids, make_extractor("classic", {}), store)
    return root


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in a second."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def run_folder(data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(load_recipe(recipe), open_material("scenes", data), folder)
    return folder


@pytest.fixture
def photos(data: Path, tmp_path: Path) -> Path:
    """A folder of six pictures, one of them in a folder below, that a test may change."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pictures = [path for path in read_scenes(data / "scenes").pictures or () if path is not None]
    for path in pictures[:5]:
        shutil.copy(path, folder / path.name)
    shutil.copy(pictures[5], folder / "more" / pictures[5].name)
    return folder


@pytest.fixture
def truncated(photos: Path, tmp_path: Path) -> Path:
    """A picture whose file ends in the middle."""
    path = tmp_path / "truncated.png"
    whole = (photos / "000001.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder: empty when there is none."""
    found: dict[str, bytes | None] = {}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        found.update({str((here / name).relative_to(folder)): None for name in folders})
        found.update(
            {str((here / name).relative_to(folder)): (here / name).read_bytes() for name in files}
        )
    return found
