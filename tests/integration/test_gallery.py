"""A folder of pictures that changes between searches, and pictures with ready-made vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL.Image import Image

from tests.integration.conftest import Visavis, contents
from visavis.data.corpus import Corpus
from visavis.data.open import open_corpus
from visavis.data.store import FeatureStore
from visavis.errors import CheckpointError
from visavis.extract.base import Regions
from visavis.extract.classic import ClassicExtractor
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import open_material
from visavis.recipes.gallery import corpus_gallery, describe, folder_gallery, unknown_words
from visavis.recipes.recipe import load_recipe
from visavis.recipes.run import train

SENTENCE = "a red circle"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures whose regions are extracted, as it happens."""
    names: list[str] = []
    extract = ClassicExtractor.extract

    def noted(self: ClassicExtractor, pictures: Sequence[Image]) -> list[Regions]:
        names.extend(str(picture.info["filename"]) for picture in pictures)
        return extract(self, pictures)

    monkeypatch.setattr(ClassicExtractor, "extract", noted)
    return names


@pytest.fixture(scope="session")
def model(run_folder: Path) -> Pretrained:
    return Pretrained.from_pretrained(run_folder)


def found(model: Pretrained, folder: Path) -> dict[str, float]:
    gallery = folder_gallery(model, folder)
    return {gallery.ids[hit.index]: hit.score for hit in gallery.search(SENTENCE, 99)}


def test_pictures_are_named_by_their_place_in_the_folder(model: Pretrained, photos: Path) -> None:
    gallery = folder_gallery(model, photos)
    assert gallery.ids == (*(f"00000{n}.png" for n in range(1, 6)), "more/000006.png")
    assert gallery.pictures == tuple(photos / name for name in gallery.ids)
    assert gallery.skipped == ()


def test_a_second_search_extracts_nothing_and_gives_the_same_answer(
    model: Pretrained, photos: Path, seen: list[str]
) -> None:
    first = found(model, photos)
    assert len(seen) == 6
    assert found(model, photos) == first
    assert len(seen) == 6


def test_only_a_new_picture_is_extracted(
    model: Pretrained, photos: Path, data: Path, seen: list[str]
) -> None:
    first = found(model, photos)
    seen.clear()
    shutil.copy(data / "scenes" / "images" / "000020.png", photos / "new.png")
    second = found(model, photos)
    assert seen == ["new.png"]
    assert set(second) - set(first) == {"new.png"}
    assert {name: second[name] for name in first} == pytest.approx(first, abs=1e-6)


def test_a_removed_picture_is_no_longer_found(model: Pretrained, photos: Path) -> None:
    first = found(model, photos)
    (photos / "000002.png").unlink()
    assert set(first) - set(found(model, photos)) == {"000002.png"}


def test_a_picture_that_changed_under_its_name_is_extracted_again(
    model: Pretrained, photos: Path, seen: list[str]
) -> None:
    first = found(model, photos)
    seen.clear()
    shutil.copy(photos / "000001.png", photos / "000002.png")
    second = found(model, photos)
    assert seen == ["000002.png"]
    assert second["000002.png"] == pytest.approx(first["000001.png"], abs=1e-6)


def test_a_picture_that_cannot_be_decoded_is_left_out_and_named(
    visavis: Visavis, run_folder: Path, photos: Path, truncated: Path
) -> None:
    broken = photos / "broken.png"
    shutil.copy(truncated, broken)
    for _ in range(2):  # not forgotten the second time
        said = visavis("search", SENTENCE, "-m", run_folder, "-i", photos, "--json")
        assert said.code == 0
        assert len(said.json["hits"]) == 6
        assert said.err.startswith(f"skipped {broken}: cannot be decoded (")
        assert len(said.err.splitlines()) == 1
    shutil.copy(photos / "000001.png", broken)
    mended = visavis("search", SENTENCE, "-m", run_folder, "-i", photos, "--json")
    assert (len(mended.json["hits"]), mended.err) == (7, "")


def test_the_cache_is_where_the_environment_says(
    model: Pretrained, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(photos)
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "here"))
    found(model, photos)
    (store,) = (tmp_path / "here" / "regions").iterdir()
    assert len(FeatureStore(store)) == 6
    assert contents(photos) == before


def test_two_folders_with_the_same_names_are_kept_apart(
    model: Pretrained, photos: Path, tmp_path: Path, data: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(data / "scenes" / "images" / "000020.png", other / "000001.png")
    first = found(model, photos)
    assert found(model, other)["000001.png"] != pytest.approx(first["000001.png"], abs=1e-4)
    assert found(model, photos) == first


def test_a_folder_may_be_the_current_one(
    model: Pretrained, photos: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str]
) -> None:
    first = found(model, photos)
    seen.clear()
    monkeypatch.chdir(photos)
    assert found(model, Path()) == first
    assert seen == []


def test_a_store_of_the_folder_can_stand_in_for_the_cache(
    visavis: Visavis, run_folder: Path, photos: Path, tmp_path: Path, seen: list[str]
) -> None:
    visavis("extract", photos, "-o", tmp_path / "store")
    seen.clear()
    (photos / "more" / "000006.png").rename(photos / "moved.png")
    words = ("search", SENTENCE, "-m", run_folder, "-i", photos, "--features", tmp_path / "store")
    said = visavis(*words, "--json")
    assert {entry["id"] for entry in said.json["hits"]} == {f"00000{n}.png" for n in range(1, 6)}
    assert said.err == f"skipped {photos / 'moved.png'}: no region vectors\n"
    assert seen == []


def test_a_folder_scores_as_its_corpus_does(model: Pretrained, data: Path, seen: list[str]) -> None:
    material = open_material("scenes", data)
    gallery = corpus_gallery(model, material.corpus, material.features)
    of_corpus = {
        Path(gallery.pictures[hit.index] or "").name: hit.score
        for hit in gallery.search(SENTENCE, 99)
    }
    assert found(model, data / "scenes" / "images") == pytest.approx(of_corpus, abs=1e-5)
    assert len(seen) == 40


def test_an_answer_and_its_question_have_the_same_score(model: Pretrained, data: Path) -> None:
    material = open_material("scenes", data)
    gallery = corpus_gallery(model, material.corpus.split("test"), material.features)
    (best, *_) = gallery.search(SENTENCE, 3)
    (back,) = describe(gallery, best.index, [SENTENCE], 3)
    assert back.score == pytest.approx(best.score, abs=1e-6)


def test_words_out_of_training_are_known(model: Pretrained) -> None:
    assert unknown_words(model, "a zebra left of a red quagga") == ["zebra", "quagga"]


# Vectors that came ready-made: no extractor can make more of them.


@pytest.fixture(scope="module")
def ready_made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes as a Karpathy corpus in a folder of another name, with vectors in a .npy file."""
    folder = tmp_path_factory.mktemp("elsewhere") / "f8k"
    scenes: Corpus = open_corpus(data / "scenes")
    shutil.copytree(data / "scenes" / "images", folder / "images")
    texts: list[list[str]] = [[] for _ in scenes.image_ids]
    for image, sentence in scenes.pairs.tolist():
        texts[image].append(scenes.sentence_texts[sentence])
    images = [
        {
            "filename": f"{i + 1:06d}.png",
            "split": scenes.image_splits[i],
            "sentences": [{"raw": text} for text in texts[i]],
        }
        for i in range(len(texts))
    ]
    (folder / "dataset_scenes.json").write_text(json.dumps({"images": images}))
    batch = FeatureStore(data / "scenes" / "features").read(np.arange(40))
    np.save(folder / "regions.npy", batch.regions.numpy())
    assert batch.boxes is not None
    np.save(folder / "boxes.npy", batch.boxes.numpy())
    (folder / "ids.txt").write_text("".join(f"{image['filename']}\n" for image in images))
    return folder


@pytest.fixture(scope="module")
def ready_made_run(
    ready_made: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ready-made"
    train(load_recipe(recipe), open_material("scenes", ready_made), folder)
    return folder


@pytest.mark.parametrize("place", ["images", "."])
def test_ready_made_vectors_are_found_around_the_pictures(
    visavis: Visavis, ready_made: Path, ready_made_run: Path, place: str
) -> None:
    said = visavis(
        "search", SENTENCE, "-m", ready_made_run, "-i", ready_made / place, "-t", "99", "--json"
    )
    assert (said.code, said.err) == (0, "")
    assert len(said.json["hits"]) == 40
    assert all(
        Path(entry["picture"]).parent == ready_made / "images" for entry in said.json["hits"]
    )


def test_ready_made_vectors_are_found_from_inside_the_folder(
    visavis: Visavis, ready_made: Path, ready_made_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready_made / "images")
    said = visavis("search", SENTENCE, "-m", ready_made_run, "-i", ".", "--json")
    assert (said.code, len(said.json["hits"])) == (0, 10)
    said = visavis("caption", "000001.png", "-m", ready_made_run, "--data", "..", "--json")
    assert (said.code, len(said.json)) == (0, 5)


def test_other_pictures_have_no_ready_made_vectors(
    visavis: Visavis, ready_made_run: Path, photos: Path
) -> None:
    said = visavis("search", SENTENCE, "-m", ready_made_run, "-i", photos)
    assert (said.code, said.out) == (1, "")
    assert "reads ready-made vectors and there are none for these pictures" in said.err
    said = visavis("caption", photos / "000001.png", "-m", ready_made_run, "--data", photos)
    assert said.code == 1


def test_a_model_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        Pretrained.from_pretrained(tmp_path)
