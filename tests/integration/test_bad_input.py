"""What users get wrong: one line on the error stream that says what to do, and nothing broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import RECIPE, Said, Visavis, contents
from visavis.recipes.recipe import load_recipe

SENTENCE = "a red circle"


def refused(said: Said, *parts: str) -> None:
    """One line on the error stream, nothing on the other, exit code 1."""
    assert said.code == 1
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("visavis: ")
    for part in parts:
        assert part in lines[0]


def unfinished(folder: Path) -> list[str]:
    """Files and folders that a writer has not brought to an end."""
    return [name for name in contents(folder) if name.endswith((".tmp", ".old"))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one: what a command writes can be seen."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def recipe_with(folder: Path, old: str, new: str) -> Path:
    """The tiny recipe with something else in it."""
    assert old in RECIPE
    path = folder / "changed.yaml"
    path.write_text(RECIPE.replace(old, new))
    return path


# Pictures


def test_extracting_a_truncated_picture_alone(
    visavis: Visavis, truncated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    truncated.rename(folder / "one.png")
    said = visavis("extract", folder, "-o", tmp_path / "store")
    refused(said, "no picture of 1 could be used", str(folder / "one.png"), "replace or remove it")
    assert not (tmp_path / "store").exists()


def test_extracting_a_truncated_picture_among_others(
    visavis: Visavis, photos: Path, truncated: Path, tmp_path: Path
) -> None:
    shutil.copy(truncated, photos / "broken.png")
    said = visavis("extract", photos, "-o", tmp_path / "store")
    assert said.code == 0
    assert "6 pictures extracted" in said.out
    assert "1 skipped" in said.out
    assert said.err.startswith(f"skipped {photos / 'broken.png'}: ")


def test_searching_a_folder_of_truncated_pictures(
    visavis: Visavis, run_folder: Path, truncated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    truncated.rename(folder / "one.png")
    for _ in range(2):
        said = visavis("search", SENTENCE, "-m", run_folder, "-i", folder)
        refused(said, "no picture of 1 could be used", "one.png: cannot be decoded")


def test_captioning_a_truncated_picture(
    visavis: Visavis, data: Path, run_folder: Path, truncated: Path
) -> None:
    said = visavis("caption", truncated, "-m", run_folder, "--data", data)
    refused(said, f"{truncated}: cannot be decoded", "replace or remove it")


def test_captioning_a_picture_that_is_not_there(
    visavis: Visavis, data: Path, run_folder: Path
) -> None:
    said = visavis("caption", "nowhere.jpg", "-m", run_folder, "--data", data)
    refused(said, "nowhere.jpg: no such picture")


@pytest.mark.parametrize("verb", ["extract", "search"])
def test_an_empty_folder(visavis: Visavis, run_folder: Path, tmp_path: Path, verb: str) -> None:
    empty, store = tmp_path / "empty", tmp_path / "store"
    empty.mkdir()
    words = {
        "extract": ("extract", empty, "-o", store),
        "search": ("search", SENTENCE, "-m", run_folder, "-i", empty),
    }
    refused(visavis(*words[verb]), f"{empty}: holds no picture", "give a folder with pictures")
    assert not store.exists()


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("gpu", "is unknown; give cpu, cuda or cuda:N"),
        ("meta", "is unknown"),
        ("cuda:99", "CUDA devices here"),
    ],
)
@pytest.mark.parametrize("verb", ["extract", "serve"])
def test_a_device_that_is_not_there(
    visavis: Visavis, photos: Path, tmp_path: Path, verb: str, device: str, why: str
) -> None:
    words = {
        "extract": ("extract", photos, "-o", tmp_path / "store"),
        "serve": ("serve", photos),
    }
    refused(visavis(*words[verb], "--device", device), f"device '{device}'", why)
    assert not (tmp_path / "store").exists()


def test_a_store_of_another_extractor(visavis: Visavis, data: Path, photos: Path) -> None:
    store = data / "scenes" / "features"
    before = contents(store)
    said = visavis("extract", photos, "-o", store, "--set", "regions=20")
    refused(said, f"{store}: holds vectors of classic", "give another folder")
    assert contents(store) == before


def test_extracting_over_other_files(visavis: Visavis, photos: Path, here: Path) -> None:
    (here / "precious.txt").write_text("mine")
    refused(visavis("extract", photos, "-o", here), f"{here}: holds other files", "a new folder")
    assert contents(here) == {"precious.txt": b"mine"}


@pytest.mark.parametrize("weights", [(), ("--weights", ".")])
def test_weights_that_are_missing(
    visavis: Visavis, photos: Path, here: Path, weights: tuple[str, ...]
) -> None:
    pytest.importorskip("onnxruntime")
    options = ("--set", "detector.file=nowhere.onnx")
    said = visavis("extract", photos, "-o", here / "store", "-x", "onnx", *options, *weights)
    refused(said, "nowhere.onnx", "--weights", "VISAVIS_WEIGHTS")
    assert contents(here) == {}


def test_a_library_that_is_not_installed(
    visavis: Visavis, photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (here / "any.onnx").touch()
    options = ("-x", "onnx", "--weights", here, "--set", "detector.file=any.onnx")
    said = visavis("extract", photos, "-o", here / "store", *options)
    refused(said, "onnxruntime is not installed; run `pip install 'visavis[onnx]'`")
    assert set(contents(here)) == {"any.onnx"}


@pytest.mark.parametrize("verb", ["extract", "train", "search", "evaluate", "demo"])
def test_an_output_below_a_file(
    visavis: Visavis,
    data: Path,
    recipe: Path,
    run_folder: Path,
    photos: Path,
    here: Path,
    verb: str,
) -> None:
    (here / "file").write_text("mine")
    target = here / "file" / "below.html"
    words: dict[str, tuple[object, ...]] = {
        "extract": ("extract", photos, "-o", target),
        "train": ("train", recipe, "--data", data, "-o", target),
        "search": ("search", SENTENCE, "-m", run_folder, "--data", data, "--sheet", target),
        "evaluate": ("evaluate", run_folder, "--data", data, "-o", target),
        "demo": ("demo", "-o", target),
    }
    said = visavis(*words[verb])
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1].startswith(f"visavis: {here / 'file'}")
    assert contents(here) == {"file": b"mine"}


def test_an_unknown_extractor(visavis: Visavis, photos: Path, here: Path) -> None:
    said = visavis("extract", photos, "-o", here / "store", "-x", "clasic")
    refused(said, "'clasic' is unknown", "did you mean 'classic'?")
    assert contents(here) == {}


# Recipes


def test_an_unknown_key_of_a_recipe(visavis: Visavis, data: Path, here: Path) -> None:
    path = recipe_with(here, "batch_size", "batchsize")
    said = visavis("train", path, "--data", data, "-o", here / "run")
    refused(said, "train.batchsize: unknown key", "did you mean 'batch_size'?")
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("train.epoch=3", ("train.epoch: unknown key", "did you mean 'epochs'?")),
        ("model.dimm=3", ("model.dimm: unknown key", "did you mean 'dim'?")),
        ("model.name=scam", ("'scam'", "did you mean 'scan'?")),
        ("train.epochs=many", ("train.epochs: expected int, got str 'many'",)),
        ("train.epochs=0", ("epochs must be at least 1, got 0",)),
        ("train.epochs", ("expected key.sub=value",)),
        ("objective.loss=hinge", ("hinge",)),
        ("data.report=tset", ("no split 'tset'; it has train, val, test",)),
        ("data.protocol=5x1k", ("protocol '5x1k' needs 5,000 images, this split has 10",)),
        ("train.batch_size=1000", ("do not fill a batch of 1000", "lower train.batch_size")),
        ("data.corpus=flickr8k", ("corpus 'flickr8k' is neither in",)),
    ],
)
def test_settings_that_cannot_be_used(
    visavis: Visavis, data: Path, recipe: Path, here: Path, setting: str, parts: tuple[str, ...]
) -> None:
    said = visavis("train", recipe, "--data", data, "-o", here / "run", "--set", setting)
    refused(said, *parts)
    assert contents(here) == {}


def test_a_recipe_that_wants_to_run_something(visavis: Visavis, data: Path, here: Path) -> None:
    path = recipe_with(here, "source: a test", "source: !!python/object/apply:os.getcwd []")
    said = visavis("train", path, "--data", data, "-o", here / "run")
    refused(said, f"{path}: not YAML", "python/object/apply")
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"a: [", "not YAML"), (b"\xff\xfe\x00", "not YAML"), (b"- a\n", "expected keys and values")],
)
def test_a_file_that_is_no_recipe(
    visavis: Visavis, data: Path, here: Path, content: bytes, part: str
) -> None:
    (here / "odd.yaml").write_bytes(content)
    refused(visavis("train", "odd.yaml", "--data", data), "odd.yaml", part)
    assert set(contents(here)) == {"odd.yaml"}


def test_a_recipe_that_is_not_there(visavis: Visavis, data: Path, here: Path) -> None:
    refused(visavis("train", "nowhere.yaml", "--data", data), "nowhere.yaml: no such recipe")
    refused(visavis("train", here, "--data", data), str(here))
    assert contents(here) == {}


def test_a_folder_with_the_run_of_another_recipe(
    visavis: Visavis, data: Path, recipe: Path, run_folder: Path
) -> None:
    before = contents(run_folder)
    words = ("train", recipe, "--data", data, "-o", run_folder)
    said = visavis(*words, "--set", "train.lr=0.1", "--set", "model.dim=8")
    refused(said, "it differs in model.dim, train.lr", "give another --output")
    assert contents(run_folder) == before


# Corpora and features


def test_a_corpus_that_nobody_names(
    visavis: Visavis, recipe: Path, run_folder: Path, photos: Path, here: Path
) -> None:
    what_to_do = "pass --data FOLDER or set VISAVIS_DATA"
    refused(visavis("train", recipe), what_to_do)
    refused(visavis("evaluate", run_folder), what_to_do)
    refused(visavis("search", SENTENCE, "-m", run_folder), what_to_do, "--images FOLDER")
    said = visavis("caption", photos / "000001.png", "-m", run_folder)
    refused(said, what_to_do, "--sentences FILE")
    assert contents(here) == {}


def test_a_corpus_folder_that_is_not_there(
    visavis: Visavis, recipe: Path, run_folder: Path, here: Path
) -> None:
    for words in (("train", recipe), ("evaluate", run_folder)):
        said = visavis(*words, "--data", "nowhere")
        refused(said, "corpus 'scenes' is neither in nowhere/scenes nor in nowhere", "pass --data")
    refused(visavis("data", "check", "nowhere"), "nowhere: no such file or folder")
    assert contents(here) == {}


def test_a_split_that_is_not_there(
    visavis: Visavis, data: Path, run_folder: Path, here: Path
) -> None:
    words = ("--data", data, "--split", "dev")
    said = visavis("evaluate", run_folder, *words, "-o", here / "results.json")
    refused(said, "scenes: no split 'dev'; it has train, val, test")
    refused(visavis("search", SENTENCE, "-m", run_folder, *words), "no split 'dev'")
    assert contents(here) == {}


@pytest.mark.parametrize(
    ("protocol", "part"),
    [("5x1k", "needs 5,000 images, this split has 10; use `full`"), ("2k", "is not known")],
)
def test_a_protocol_that_the_corpus_does_not_fill(
    visavis: Visavis, data: Path, run_folder: Path, here: Path, protocol: str, part: str
) -> None:
    words = ("evaluate", run_folder, "--data", data, "--protocol", protocol)
    refused(visavis(*words, "-o", here / "results.json"), part)
    assert contents(here) == {}


def test_features_of_another_extractor(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path, here: Path
) -> None:
    store = tmp_path / "store"
    visavis("extract", data / "scenes", "-o", store, "--set", "regions=20")
    words = ("--data", data, "--features", store)
    said = visavis("evaluate", run_folder, *words, "-o", here / "results.json")
    refused(said, "the model reads vectors of classic", "give those it was trained on")
    refused(visavis("search", SENTENCE, "-m", run_folder, *words), "the model reads vectors of")
    assert contents(here) == {}


def test_features_of_other_pictures(
    visavis: Visavis, data: Path, recipe: Path, photos: Path, tmp_path: Path, here: Path
) -> None:
    store = tmp_path / "store"
    visavis("extract", photos, "-o", store)
    said = visavis("train", recipe, "--data", data, "--features", store, "-o", here / "run")
    refused(said, "34 of 40 images have no features", "extract the features of this corpus")
    assert contents(here) == {}


@pytest.fixture
def precomp(tmp_path: Path) -> Path:
    """A folder of ready-made features with two captions an image."""
    folder = tmp_path / "pre"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, images in (("train", 20), ("dev", 6), ("test", 6)):
        vectors = generator.standard_normal((images, 3, 5), dtype=np.float32)
        np.save(folder / f"{split}_ims.npy", vectors)
        texts = [f"a thing {number % 7} of {split}" for number in range(2 * images)]
        (folder / f"{split}_caps.txt").write_text("\n".join(texts) + "\n")
    return folder


PRECOMP = ("--set", "data.corpus=pre", "--set", "data.select=dev", "--set", "train.batch_size=8")


def test_a_precomp_folder_trains(visavis: Visavis, precomp: Path, recipe: Path, here: Path) -> None:
    said = visavis("train", recipe, "--data", precomp, "-o", here / "run", *PRECOMP)
    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize("captions", [39, 41])
def test_captions_of_another_number_than_the_features(
    visavis: Visavis, precomp: Path, recipe: Path, here: Path, captions: int
) -> None:
    texts = precomp / "train_caps.txt"
    texts.write_text("a thing\n" * captions)
    said = visavis("train", recipe, "--data", precomp, "-o", here / "run", *PRECOMP)
    refused(said, "train_caps.txt", f"{captions} captions", "20")
    assert contents(here) == {}
    checked = visavis("data", "check", precomp)
    assert checked.code == 1
    assert f"{captions} captions" in checked.out


def test_features_that_are_not_numbers(
    visavis: Visavis, precomp: Path, recipe: Path, here: Path
) -> None:
    vectors = np.load(precomp / "train_ims.npy")
    vectors[3, 1, 2] = np.nan
    np.save(precomp / "train_ims.npy", vectors)
    said = visavis("train", recipe, "--data", precomp, "-o", here / "run", *PRECOMP)
    refused(said, "train_ims.npy", "row 3", "NaN")
    assert unfinished(here) == []
    checked = visavis("data", "check", precomp)
    assert checked.code == 1
    assert "NaN" in checked.out


def test_captions_that_are_printed_bytes(
    visavis: Visavis, precomp: Path, recipe: Path, here: Path
) -> None:
    texts = precomp / "train_caps.txt"
    texts.write_text("".join(f"b'{line}'\n" for line in texts.read_text().splitlines()))
    said = visavis("train", recipe, "--data", precomp, "-o", here / "run", *PRECOMP)
    refused(said, "train_caps.txt", "bytes", "UTF-8")
    assert contents(here) == {}


@pytest.mark.parametrize("content", [b"caf\xe9\n", b"b'a red circle'\n", b"\n\n", None])
def test_a_file_of_sentences_that_cannot_be_read(
    visavis: Visavis, run_folder: Path, photos: Path, here: Path, content: bytes | None
) -> None:
    path = here / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    picture = photos / "000001.png"
    refused(visavis("caption", picture, "-m", run_folder, "--sentences", path))


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}', '{"images": [{"filename": 1}]}'])
def test_a_corpus_file_that_is_damaged(
    visavis: Visavis, recipe: Path, here: Path, content: str
) -> None:
    (here / "dataset_scenes.json").write_text(content)
    assert visavis("data", "check", here).code == 1
    refused(visavis("train", recipe, "--data", here, "-o", here / "run"), "dataset_scenes.json")
    assert set(contents(here)) == {"dataset_scenes.json"}


# Models and results


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "/nowhere/at/all", "."])
def test_a_model_folder_that_is_not_there(
    visavis: Visavis, data: Path, photos: Path, here: Path, model: str
) -> None:
    refused(visavis("evaluate", model, "--data", data), f"{model}: no model here")
    refused(visavis("search", SENTENCE, "-m", model, "-i", photos), f"{model}: no model here")
    assert contents(here) == {}


def test_a_model_whose_vocabulary_was_replaced(
    visavis: Visavis, data: Path, run_folder: Path, here: Path
) -> None:
    shutil.copytree(run_folder / "best", here / "model")
    path = here / "model" / "vocab.json"
    words = json.loads(path.read_text())
    first, second = words["idx2word"]["5"], words["idx2word"]["6"]
    words["idx2word"].update({"5": second, "6": first})
    words["word2idx"].update({first: 6, second: 5})
    path.write_text(json.dumps(words))
    said = visavis("evaluate", "model", "--data", data)
    refused(said, "the tokenizer is not the one the model was trained with", "copy the whole")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
def test_a_model_file_that_is_cut_off(
    visavis: Visavis, data: Path, run_folder: Path, here: Path, name: str
) -> None:
    shutil.copytree(run_folder / "best", here / "model")
    path = here / "model" / name
    path.write_bytes(path.read_bytes()[:-100])
    refused(visavis("evaluate", "model", "--data", data), name)


def test_comparing_with_another_corpus(
    visavis: Visavis, data: Path, run_folder: Path, here: Path
) -> None:
    words = ("evaluate", run_folder, "--data", data)
    visavis(*words, "--split", "val", "-o", here / "val.json")
    before = contents(here)
    said = visavis(*words, "--compare", here / "val.json", "-o", here / "results.json")
    refused(said, "were evaluated under different corpora", "evaluate both alike")
    assert contents(here) == before


@pytest.mark.parametrize("content", [None, "{}", "[1]", "nonsense"])
def test_comparing_with_something_else(
    visavis: Visavis, data: Path, run_folder: Path, here: Path, content: str | None
) -> None:
    path = here / "other.json"
    if content is not None:
        path.write_text(content)
    refused(visavis("evaluate", run_folder, "--data", data, "--compare", path), str(path))


@pytest.mark.parametrize("sentence", ["", "   "])
def test_a_sentence_without_a_word(
    visavis: Visavis, data: Path, run_folder: Path, sentence: str
) -> None:
    refused(visavis("search", sentence, "-m", run_folder, "--data", data), "has no token")


@pytest.mark.parametrize("name", ["sheet.gif", "sheet"])
def test_a_sheet_of_another_kind(
    visavis: Visavis, run_folder: Path, photos: Path, here: Path, name: str
) -> None:
    said = visavis("search", SENTENCE, "-m", run_folder, "-i", photos, "--sheet", name)
    refused(said, f"{name}: a contact sheet is written as .html or .png")
    assert contents(here) == {}


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("train",),
        ("train", "x.yaml", "--nonsense"),
        ("search",),
        ("search", "x", "-m", "m", "-t", "0"),
        ("extract", "x", "-o", "y", "--workers", "-1"),
    ],
)
def test_a_command_line_that_is_not_understood(
    visavis: Visavis, here: Path, words: tuple[str, ...]
) -> None:
    said = visavis(*words)
    assert (said.code, said.out) == (2, "")
    assert "Error" in said.err
    assert "Traceback" not in said.err
    assert contents(here) == {}


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a mebibyte; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    done = None if shutil.which("mount") is None else subprocess.run(mount, capture_output=True)
    if done is None or done.returncode:
        pytest.skip("no small file system can be mounted here: a full disk is not tried")
    yield place
    subprocess.run(["umount", str(place)], check=True)


BIG = ("--set", "model.dim=256")  # its training state is larger than a megabyte


def test_a_disk_that_is_full_in_training(
    visavis: Visavis, data: Path, recipe: Path, small_disk: Path
) -> None:
    run = small_disk / "run"
    said = visavis("train", recipe, "--data", data, "-o", run, *BIG)
    refused(said, str(run), "the disk is full; free some space and run the command again")
    assert unfinished(run) == []
    assert "results.json" not in contents(run)


def test_a_disk_that_is_full_leaves_the_earlier_model_and_goes_on(
    visavis: Visavis, data: Path, recipe: Path, small_disk: Path
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    words = ("train", recipe, "--data", data, "-o", run)
    assert load_recipe(recipe).train.epochs == 2
    filler.write_bytes(b"x" * 790_000)  # room for one training state, not for two
    refused(visavis(*words), "the disk is full")
    assert unfinished(run) == []
    before = contents(run)
    assert any(name.startswith("states/step_") for name in before)
    filler.unlink()
    assert visavis(*words).code == 0
    assert json.loads((run / "results.json").read_text())["details"]["training"]["epochs"] == 2


@pytest.mark.parametrize("verb", ["extract", "evaluate", "search"])
def test_a_disk_that_is_full_elsewhere(
    visavis: Visavis, data: Path, run_folder: Path, photos: Path, small_disk: Path, verb: str
) -> None:
    room = 12_288 if verb == "extract" else 0  # enough to begin a store, not for the vectors
    (small_disk / "filler").write_bytes(b"x" * (2**20 - room))
    target = small_disk / "out"
    model = ("-m", run_folder, "-i", photos)
    words = {
        "extract": ("extract", photos, "-o", target),
        "evaluate": ("evaluate", run_folder, "--data", data, "-o", target / "results.json"),
        "search": ("search", SENTENCE, *model, "--sheet", target / "sheet.png"),
    }
    refused(visavis(*words[verb]), "the disk is full")
    assert unfinished(small_disk) == []
    written = {name: value for name, value in contents(target).items() if value is not None}
    assert {Path(name).name for name in written} <= {"store.json"}  # extracting goes on from it


@pytest.fixture
def short_files() -> Iterator[None]:
    """No file may grow beyond 20,000 bytes."""
    resource = pytest.importorskip("resource", reason="this system has no limits of file sizes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_grow(
    visavis: Visavis, data: Path, recipe: Path, here: Path, request: pytest.FixtureRequest
) -> None:
    run = here / "run"
    request.getfixturevalue("short_files")  # after the corpus has been made
    refused(visavis("train", recipe, "--data", data, "-o", run), str(run), "cannot be written")
    assert unfinished(run) == []


def test_a_run_that_failed_before_its_first_state_leaves_the_folder_free(
    visavis: Visavis, precomp: Path, recipe: Path, here: Path
) -> None:
    vectors = np.load(precomp / "train_ims.npy")
    np.save(precomp / "train_ims.npy", np.full_like(vectors, np.nan))
    words = ("train", recipe, "--data", precomp, "-o", here / "run", *PRECOMP)
    refused(visavis(*words), "NaN")
    np.save(precomp / "train_ims.npy", vectors)  # other vectors: another run
    assert visavis(*words).code == 0
