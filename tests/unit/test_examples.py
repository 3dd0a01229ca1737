"""The examples of CONTRIBUTING.md work as they stand."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

from tests import tiny
from tests.conformance import test_models as conformance
from tests.pages import blocks, example_files
from visavis.data.corpus import Corpus
from visavis.data.open import FORMATS
from visavis.errors import DataError
from visavis.extract.table import EXTRACTORS, from_identity, make_extractor
from visavis.losses import LOSSES
from visavis.metrics.ranks import NO_POSITIVE, Ranks
from visavis.models import MODELS
from visavis.recipes.recipe import parse_recipe


def test_every_kind_of_addition_has_an_example() -> None:
    rooms = {path.split("/")[2] for path in example_files() if path.startswith("src/")}
    assert rooms == {"models", "losses", "data", "metrics", "extract"}
    assert max(len(line) for text in example_files().values() for line in text.splitlines()) <= 100


def installed(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example as if its file were there."""
    name = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(example_files()[path], path, "exec"), module.__dict__)
    return module


def test_the_example_of_a_model_passes_the_conformance_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("src/visavis/models/dvsa.py", monkeypatch)
    monkeypatch.setitem(MODELS, "dvsa", "visavis.models.dvsa:Dvsa")
    monkeypatch.setitem(tiny.VARIANTS, "dvsa", ("dvsa", {}))
    ran = 0
    for name, claim in vars(conformance).items():
        wanted = inspect.signature(claim).parameters if name.startswith("test_") else {}
        if "variant" in wanted:
            claim("dvsa", **({"tmp_path": tmp_path} if "tmp_path" in wanted else {}))
            ran += 1
    assert ran >= 10
    (recipe,) = [block for block in blocks("yaml") if "name: dvsa" in block.text]
    assert parse_recipe(yaml.safe_load(recipe.text)).model_name == "dvsa"


def test_the_example_of_a_loss_and_its_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("src/visavis/losses/soft.py", monkeypatch)
    monkeypatch.setitem(LOSSES, "soft_hinge", "visavis.losses.soft:soft_hinge")
    installed("tests/unit/test_soft.py", monkeypatch).test_soft_hinge_equals_a_loop_over_negatives()


def test_the_example_of_a_corpus_reads_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_table = installed("src/visavis/data/table.py", monkeypatch).read_table
    assert "table" not in FORMATS
    file = tmp_path / "captions.csv"
    file.write_text(
        'image,split,sentence\na.jpg,train,"Dogs, two."\nb.jpg,val,A cat.\na.jpg,train,Dog.\n'
    )
    corpus: Corpus = read_table(tmp_path)
    assert corpus.image_ids == ("a.jpg", "b.jpg")
    assert corpus.pairs.tolist() == [[0, 0], [1, 1], [0, 2]]
    assert corpus.split("train").sentence_texts == ("Dogs, two.", "Dog.")
    file.write_text("image,split,sentence\na.jpg,,Dog.\n")
    with pytest.raises(DataError, match="line 2: no split"):
        read_table(tmp_path)


def test_the_example_of_a_metric_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed("src/visavis/metrics/reciprocal.py", monkeypatch)
    found = module.mean_reciprocal_ranks(Ranks(np.array([0, 1]), np.array([3, NO_POSITIVE])))
    assert found == {"i2t_mrr": 75.0, "t2i_mrr": 25.0}


def test_the_example_of_an_extractor_sees_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("src/visavis/extract/patches.py", monkeypatch)
    monkeypatch.setitem(EXTRACTORS, "patches", "visavis.extract.patches:PatchesExtractor")
    extractor = make_extractor("patches", {"side": 2})
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste((0, 0, 255), (20, 0, 40, 20))
    (regions,) = extractor.extract([picture])
    assert regions.vectors.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert regions.boxes[1].tolist() == [0.5, 0.0, 1.0, 0.5]
    assert from_identity(extractor.identity).identity == extractor.identity
