"""Model folders: written whole, read with care, nothing in them executed."""

from __future__ import annotations

import dataclasses
import errno
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import REGION_DIM, images, tiny_model
from tests.unit.test_files import files_up_to, names
from visavis.data.features import FeatureIdentity
from visavis.data.tokenizer import WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.errors import CheckpointError, StorageError
from visavis.models.pretrained import Pretrained, card, save_weights

VOCABULARY = Vocabulary.build([" ".join(f"w{i}" for i in range(16))], threshold=1)
IDENTITY = FeatureIdentity(extractor="classic", options={"regions": 12}, digest="abc")


def pretrained(seed: int = 0) -> Pretrained:
    details = {"recipe": "a test", "corpus": "tiny", "metrics": {"rsum": 123.456}}
    return Pretrained("scan", tiny_model("scan-t2i", seed), tokenizer(), IDENTITY, details)


def tokenizer() -> WordTokenizer:
    return WordTokenizer(VOCABULARY, max_words=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pretrained().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def error_of(source: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        Pretrained.from_pretrained(source, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return folder


def test_everything_comes_back(folder: Path) -> None:
    found = Pretrained.from_pretrained(folder, device="cpu")
    original = pretrained()
    assert found.name == "scan"
    assert found.features == IDENTITY
    assert found.details == original.details
    assert found.tokenizer == original.tokenizer
    assert found.model.config == original.model.config
    assert not found.model.training
    weights = found.model.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in original.model.state_dict().items())


def test_a_run_folder_stands_for_its_best_model(tmp_path: Path) -> None:
    pretrained().save_pretrained(tmp_path / "run" / "best")
    assert Pretrained.from_pretrained(tmp_path / "run", device="cpu").name == "scan"


def test_the_card_says_what_it_is(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == card(pretrained())
    assert "by the recipe `a test` on tiny." in text
    assert "| rsum | 123.5 |" in text
    parameters = sum(weight.numel() for weight in pretrained().model.parameters())
    assert f"- parameters: {parameters:,}" in text
    assert "- vocabulary: 20 tokens" in text


def test_a_card_without_details_stands_too() -> None:
    bare = dataclasses.replace(pretrained(), details={})
    assert "Trained with visavis" in card(bare)
    assert "metric" not in card(bare)


def test_saving_replaces_the_whole_folder(folder: Path) -> None:
    (folder / "left_over.txt").write_text("x")
    pretrained(seed=1).save_pretrained(folder)
    assert "left_over.txt" not in names(folder)
    assert names(folder.parent) == {"model"}
    weights = load_file(folder / "model.safetensors")
    expected = tiny_model("scan-t2i", 1).state_dict()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


@pytest.mark.parametrize("limit", [2000, 100])
def test_a_model_that_does_not_fit_leaves_the_one_before(folder: Path, limit: int) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before["model.safetensors"]) > limit
    with files_up_to(limit), pytest.raises(StorageError) as caught:
        pretrained(seed=1).save_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"{folder}: cannot be written (File too large)"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(folder.parent) == {"model"}


def test_the_system_error_of_the_weights_writer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    text = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*_: object) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr("visavis.models.pretrained.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_weights(tiny_model("vse"), Path("anywhere"))
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_that_is_none_says_what_to_give(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "absent", "./absent", "absent"):
        assert "no model here (config.json is missing); give a folder" in error_of(source)


def test_a_hub_name_that_cannot_be_reached_is_one_line() -> None:
    message = error_of("nobody/no-such-model")
    assert message.startswith("nobody/no-such-model: neither a folder here nor a model the hub")


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "tokenizer_config.json"])
def test_a_missing_file_is_one_line_that_names_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = error_of(folder)
    assert str(folder) in message


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"{", b"[]", b"\xff" * 20], ids=repr)
def test_a_damaged_file_is_one_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert str(folder) in error_of(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff"], ids=repr)
def test_a_damaged_config_is_one_line(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert str(folder / "config.json") in error_of(folder)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_weights_cut_short_are_refused(folder: Path, kept: float) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "weights cannot be read" in error_of(folder)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.pop(key)


def _with(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("format", 2), "format 2, this version reads 1; upgrade visavis"),
        (_without("format"), "not a visavis model ('format' is missing)"),
        (_without("tokenizer_digest"), "not a visavis model ('tokenizer_digest' is missing)"),
        (_with("tokenizer_digest", "x"), "the tokenizer is not the one the model was trained"),
        (_with("name", "scna"), "no model 'scna'; did you mean 'scan'?"),
        (_with("name", ["scan"]), "not a visavis model"),
        (_with("details", None), "not a visavis model"),
        (_with("features", {"extractors": "x"}), "features.extractors: unknown key; did you mean"),
        (_with("features", 3), "features: expected keys and values"),
        (_with("model", {}), "model.region_dim: missing"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    assert message in error_of(edited(folder, change))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lamda_lse", 1.0, "model.lamda_lse: unknown key; did you mean 'lambda_lse'?"),
        ("dim", "8", "model.dim: expected int, got str '8'"),
        ("dim", 9, "weights do not fit config.json"),
        ("dim", -8, "config.json"),
        ("dim", 10**15, "config.json"),
        ("region_dropout", 7.0, "config.json"),
        ("direction", "sideways", "is not a choice"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    folder: Path, key: str, value: object, message: str
) -> None:
    assert message in error_of(edited(folder, lambda values: values["model"].update({key: value})))


def test_another_vocabulary_is_refused(folder: Path) -> None:
    WordTokenizer(Vocabulary.build(["other words here"], threshold=1)).save(folder)
    assert "the tokenizer is not the one the model was trained with" in error_of(folder)


def test_weights_with_one_tensor_more_or_less_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "more": torch.zeros(1)}, path)
    assert "weights do not fit config.json" in error_of(folder)
    weights.popitem()
    save_file(weights, path)
    assert "weights do not fit config.json" in error_of(folder)


class Trap:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


def test_pickles_in_a_folder_are_never_read(folder: Path, tmp_path: Path) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    for name in ("pytorch_model.bin", "model.pt", "vocab.pkl", "config.pkl", "training_args.bin"):
        (folder / name).write_bytes(trap)
    assert Pretrained.from_pretrained(folder, device="cpu").name == "scan"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "vocab.json", "tokenizer_config.json", "config.json"]
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_under_a_good_name_is_not_executed(
    folder: Path, tmp_path: Path, name: str, protocol: int
) -> None:
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=protocol))
    error_of(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_folder_moved_elsewhere_still_loads(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder, tmp_path / "moved")
    found = Pretrained.from_pretrained(str(tmp_path / "moved"), device="cpu")
    model = cast("Any", found.model)
    assert model.encode_images(images()).tokens.shape[2] == 8
    assert model.config.region_dim == REGION_DIM


def test_the_config_names_no_place_on_this_machine(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        assert not re.search(re.escape(str(tmp_path)).encode(), path.read_bytes())
