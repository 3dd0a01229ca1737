"""An index in memory: what it finds, and how it follows a folder."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.search_tools import CLASSIC, SENTENCES, draw, model_folder
from visavis.errors import CheckpointError, DataError, IndexError_
from visavis.extract.pictures import load_picture
from visavis.extract.table import make_extractor
from visavis.models.pretrained import Pretrained
from visavis.scoring.matrix import score_matrix
from visavis.search.index import FolderSource, Index
from visavis.search.place import MemoryPlace
from visavis.types import ImageBatch

NAMES = [f"{place}/{number}.png" for place in ("sea", "town") for number in range(12)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: model_folder(folder / name, name) for name in ("scan", "vse", "dcpa")} | {
        "other": model_folder(folder / "other", "scan", seed=5)
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw(folder, NAMES)
    return folder


@pytest.fixture
def photos(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bank") / "sentences.txt"
    words = ("red", "blue", "white"), ("dog", "cat", "bird", "horse"), ("grass", "sand", "snow")
    lines = [f"a {a} {b} on {c}" for a in words[0] for b in words[1] for c in words[2]]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def index(models: dict[str, Path], drawn: Path, sentences: Path) -> Index:
    """Not written to by any test."""
    source = FolderSource(drawn, sentences=sentences)
    return Index.build(MemoryPlace(), model=models["scan"], companion=models["vse"], source=source)


def built(photos: Path, model: Path, **more: Any) -> Index:
    return Index.build(MemoryPlace(), model=model, source=FolderSource(photos), **more)


def paths(index: Index) -> dict[str, str]:
    """Path and id of every picture."""
    hits = index.search("a dog", k=999, exact=True).hits
    return {hit.path: hit.id for hit in hits}


def scores_by_hand(model: Path, folder: Path, text: str) -> dict[str, float]:
    """Every picture of a folder looked at and scored, without an index."""
    pretrained = Pretrained.from_pretrained(model)
    extractor = make_extractor("classic", CLASSIC)
    found = {}
    for name in NAMES:
        (regions,) = extractor.extract([load_picture(folder / name)])
        vectors = torch.from_numpy(regions.vectors)[None]
        batch = ImageBatch(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))
        matcher: Any = pretrained.model
        with torch.inference_mode():
            image = matcher.encode_images(batch)
            sentence = matcher.encode_sentences(pretrained.tokenizer.encode([text]))
        found[name] = float(score_matrix(matcher, image, sentence).t2i)
    return found


def test_exact_search_has_the_scores_of_the_model(
    index: Index, models: dict[str, Path], drawn: Path
) -> None:
    answer = index.search(SENTENCES[0], k=24, exact=True)
    by_hand = scores_by_hand(models["scan"], drawn, SENTENCES[0])
    assert answer.exact
    assert (answer.candidates, answer.gallery) == (24, 24)
    assert [hit.rank for hit in answer.hits] == list(range(1, 25))
    for hit in answer.hits:
        assert hit.score == pytest.approx(by_hand[hit.path], abs=3e-3)  # rows in half precision
        assert hit.first_score is None
    assert [hit.score for hit in answer.hits] == sorted(
        (h.score for h in answer.hits), reverse=True
    )


def test_two_stages_score_what_the_first_one_chose(index: Index) -> None:
    exact = {hit.id: hit.score for hit in index.search(SENTENCES[1], k=24, exact=True).hits}
    answer = index.search(SENTENCES[1], k=3, candidates=8)
    assert not answer.exact
    assert answer.candidates == 8
    assert [stage.name for stage in answer.stages] == ["encode", "first", "exact"]
    for hit in answer.hits:
        assert hit.score == pytest.approx(exact[hit.id], abs=1e-5)
    view = index._reader.view
    vectors = view.vectors("vector_companion_mean", range(24))
    query = view.engine.query_vectors([SENTENCES[1]], "t2i")[0]
    chosen = {view.snapshot.records[place].id for place in (vectors @ query).topk(8).indices}
    best = sorted(chosen, key=lambda name: -exact[name])[:3]
    assert [hit.id for hit in answer.hits] == best
    assert all(hit.first_score is not None for hit in answer.hits)


def test_as_many_candidates_as_pictures_is_exact(index: Index) -> None:
    whole = index.search(SENTENCES[2], k=5, exact=True)
    answer = index.search(SENTENCES[2], k=5, candidates=24)
    assert answer.exact
    assert [hit.id for hit in answer.hits] == [hit.id for hit in whole.hits]


def test_a_model_without_any_vectors_scores_everything_and_says_so(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.search.encoder.Encoder.comparable", False)
    index = built(photos, models["scan"])
    answer = index.search(SENTENCES[0], k=2, candidates=3)
    assert answer.exact
    assert index.info().first_stage == "none"
    with pytest.raises(IndexError_, match="--companion"):
        index.search_by_image(answer.hits[0].id)


def test_the_mean_of_tokens_is_a_first_stage_where_a_model_pools_nothing(
    photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models["scan"])
    assert index.info().first_stage == "mean"
    view = index._reader.view
    images = view.encoded(range(24))
    sentence = view.engine.main.sentences([SENTENCES[0]])
    means = torch.stack([t[m].mean(dim=0) for t, m in zip(images.tokens, images.mask, strict=True)])
    cosines = torch.cosine_similarity(means, sentence.tokens[0].mean(dim=0)[None], dim=1)
    rows = view.vectors("vector_mean", range(24))
    found = rows @ view.engine.query_vectors([SENTENCES[0]], "t2i")[0]
    torch.testing.assert_close(found, cosines, atol=2e-3, rtol=0)  # rows in half precision
    answer = index.search(SENTENCES[0], k=3, candidates=8)
    assert not answer.exact


def test_parts_of_vectors_count_as_much_as_fits_the_scores_best(index: Index) -> None:
    view = index._reader.view
    weights = view.generation.weights["t2i"]
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert view.bank is not None
    texts = [*view.bank.texts]
    engine = view.engine
    sentences = engine.main.sentences(texts)
    scores = score_matrix(engine.main.matcher, view.encoded(range(24)), sentences).t2i
    rows = view.vectors("vector_companion_mean", range(24))
    first, second = (
        (a @ b.T)
        for a, b in zip(
            engine.split(rows, "t2i"),
            engine.split(engine.sentence_vectors(texts, "t2i"), "t2i"),
            strict=True,
        )
    )

    def missed(weight: float) -> float:
        """How far the best multiple of a sum is from the scores."""
        total = weight * first + (1 - weight) * second
        total = (total - total.mean(dim=0)).flatten()
        wanted = (scores - scores.mean(dim=0)).flatten()
        factor = (total @ wanted) / (total @ total)
        return float((factor * total - wanted).square().sum())

    ours = missed(weights[0])
    assert all(missed(weight / 20) >= ours * (1 - 1e-4) for weight in range(21))


@pytest.mark.parametrize("name", ["vse", "dcpa"])
def test_a_model_with_vectors_needs_no_companion(
    name: str, photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models[name])
    assert index.info().first_stage == "own"
    whole = {hit.id: hit.score for hit in index.search("a red cat", k=24, exact=True).hits}
    answer = index.search("a red cat", k=4, candidates=6)
    assert not answer.exact
    for hit in answer.hits:
        assert hit.score == pytest.approx(whole[hit.id], abs=1e-5)


def test_many_queries_give_what_one_gives(index: Index) -> None:
    many = index.search_many(SENTENCES, k=4, candidates=10, where="path LIKE 'sea/%'")
    for query, answer in zip(SENTENCES, many, strict=True):
        alone = index.search(query, k=4, candidates=10, where="path LIKE 'sea/%'")
        assert answer.query == query
        assert [hit.id for hit in answer.hits] == [hit.id for hit in alone.hits]
        for ours, theirs in zip(answer.hits, alone.hits, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
    assert index.search_many([]) == []


def test_a_filter_leaves_only_what_it_says(index: Index) -> None:
    answer = index.search("a dog", k=99, where="path LIKE 'town/%' AND width = 56")
    assert len(answer.hits) == 12
    assert all(hit.path.startswith("town/") for hit in answer.hits)
    assert answer.stages[0].name == "filter"
    assert answer.stages[0].items == 12
    assert index.search("a dog", where="width > 1000").hits == ()


@pytest.mark.parametrize(
    ("query", "more", "said"),
    [
        ("", {}, "empty"),
        ("   ", {}, "empty"),
        ("a dog", {"k": 0}, "at least 1"),
        ("a dog", {"candidates": 0}, "at least 1"),
        ("a dog", {"where": "1 = 1"}, "filter"),
        ("a dog", {"rerank": "magic"}, "magic"),
    ],
)
def test_a_bad_question_is_refused(
    index: Index, query: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        index.search(query, **more)


def test_reranking_keeps_pictures_and_scores(index: Index) -> None:
    plain = index.search("a red dog", k=24, exact=True)
    other = index.search("a red dog", k=24, exact=True, rerank="reciprocal")
    assert {hit.id: hit.score for hit in plain.hits} == pytest.approx(
        {hit.id: hit.score for hit in other.hits}
    )
    assert [hit.id for hit in plain.hits][15:] == [hit.id for hit in other.hits][15:]
    assert other.stages[-1].name == "rerank"


def test_pictures_like_one_are_those_of_the_largest_cosine(index: Index, drawn: Path) -> None:
    file = drawn / NAMES[3]
    by_file = index.search_by_image(file, k=5)
    assert by_file.hits[0].path == NAMES[3]
    assert by_file.hits[0].score == pytest.approx(1, abs=1e-4)
    by_bytes = index.search_by_image(file.read_bytes(), k=5)
    assert [hit.id for hit in by_bytes.hits] == [hit.id for hit in by_file.hits]
    by_id = index.search_by_image(by_file.hits[0].id, k=4)
    assert [hit.id for hit in by_id.hits] == [hit.id for hit in by_file.hits[1:]]
    scores = [hit.score for hit in by_id.hits]
    assert scores == sorted(scores, reverse=True)


def test_a_picture_that_is_not_in_the_index_can_be_asked_with(index: Index, tmp_path: Path) -> None:
    (file,) = draw(tmp_path, ["new.png"], seed=77)
    answer = index.search_by_image(file.read_bytes(), k=3)
    assert len(answer.hits) == 3
    assert index.captions(file, k=2).hits


def test_bytes_that_are_no_picture_are_refused_without_a_path(index: Index) -> None:
    with pytest.raises(DataError, match="the picture: cannot be decoded") as caught:
        index.search_by_image(b"<svg></svg>")
    assert "visavis-" not in str(caught.value)


def test_captions_are_the_best_sentences_of_the_bank(index: Index, drawn: Path) -> None:
    answer = index.captions(drawn / NAMES[0], k=3)
    texts = [line for line in index._reader.view.bank.texts] if index._reader.view.bank else []  # noqa: C416
    given = index.captions(drawn / NAMES[0], k=len(texts), sentences=texts)
    assert answer.gallery == given.gallery == 36
    assert [hit.text for hit in answer.hits] == [hit.text for hit in given.hits[:3]]
    scores = [hit.score for hit in given.hits]
    assert scores == sorted(scores, reverse=True)


def test_captions_need_sentences(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    with pytest.raises(DataError, match="no sentences of its own"):
        index.captions(photos / NAMES[0])
    with pytest.raises(DataError, match="at least one"):
        index.captions(photos / NAMES[0], sentences=[])


@pytest.mark.parametrize(("name", "kind"), [("scan", "attention"), ("vse", "left out")])
def test_explanations_have_a_weight_for_every_word_and_region(
    name: str, kind: str, photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models[name])
    hit = index.search("a red dog", k=1, exact=True).hits[0]
    found = index.explain(hit.id, "a red dog")
    assert found.kind == kind
    assert found.words == ["a", "red", "dog"]
    assert found.boxes.shape == (6, 4)
    assert found.weights.shape == (3, 6)
    assert found.weights.min() >= 0
    assert found.weights.max() <= 1
    assert found.score == pytest.approx(hit.score, abs=3e-3)
    without = index.search("a red", k=24, exact=True).hits
    lost = hit.score - next(other.score for other in without if other.id == hit.id)
    assert found.word_scores[2] == pytest.approx(lost, abs=3e-3)


def test_an_unknown_id_is_an_error(index: Index) -> None:
    for ask in (index.picture, index.search_by_image, lambda i: index.explain(i, "a dog")):
        with pytest.raises(IndexError_, match="'0badc0de' is not in the index"):
            ask("0badc0de")


def test_nothing_is_done_when_nothing_changed(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    version = index._reader.view.store.version()
    report = index.sync()
    assert (report.added, report.changed, report.removed, report.skipped) == (0, 0, 0, [])
    assert index._reader.view.store.version() == version


def test_new_changed_and_removed_pictures_are_seen(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    before = paths(index)
    draw(photos, ["sea/new.png"], seed=50)
    draw(photos, ["sea/1.png"], seed=51)
    (photos / "sea/2.png").unlink()
    report = index.sync()
    assert (report.added, report.changed, report.removed) == (1, 1, 1)
    after = paths(index)
    assert {*after} == {*NAMES, "sea/new.png"} - {"sea/2.png"}
    assert after["sea/1.png"] != before["sea/1.png"]
    others = {*NAMES} - {"sea/1.png", "sea/2.png"}
    assert {name: after[name] for name in others} == {name: before[name] for name in others}


def test_a_moved_picture_keeps_its_id_and_is_not_looked_at_again(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(photos, models["vse"])
    before = paths(index)
    (photos / "sea/3.png").rename(photos / "town/moved.png")
    monkeypatch.setattr(
        "visavis.search.supply.ExtractorSupply._one",
        lambda *_: pytest.fail("the picture was looked at again"),
    )
    report = index.sync()
    assert (report.added, report.changed, report.removed) == (0, 1, 0)
    assert paths(index)["town/moved.png"] == before["sea/3.png"]
    assert index.picture(before["sea/3.png"]) == (photos / "town/moved.png").resolve()


def test_a_second_file_of_the_same_content_has_an_id_of_its_own(
    photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models["vse"])
    first = paths(index)["sea/4.png"]
    shutil.copy(photos / "sea/4.png", photos / "sea/copy.png")
    assert index.sync().added == 1
    second = paths(index)["sea/copy.png"]
    assert second.startswith(f"{first}-")
    (photos / "sea/4.png").unlink()
    assert index.sync().removed == 1
    assert paths(index)["sea/copy.png"] == second
    assert index.picture(second).name == "copy.png"


def test_a_file_that_is_touched_is_not_looked_at_again(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(photos, models["vse"])
    os.utime(photos / "sea/5.png", (1, 1))
    monkeypatch.setattr(
        "visavis.search.supply.ExtractorSupply._one", lambda *_: pytest.fail("looked at again")
    )
    report = index.sync()
    assert (report.added, report.changed, report.removed) == (0, 0, 0)
    assert index.search("a dog", where="modified < '1971'").hits[0].path == "sea/5.png"


def test_broken_pictures_are_skipped_with_a_reason(photos: Path, models: dict[str, Path]) -> None:
    (photos / "sea/broken.png").write_bytes((photos / "sea/1.png").read_bytes()[:60])
    (photos / "sea/text.jpg").write_text("no picture", encoding="utf-8")
    index = built(photos, models["vse"])
    assert index.built is not None
    assert {path for path, _ in index.built.skipped} == {"sea/broken.png", "sea/text.jpg"}
    assert len(paths(index)) == 24
    (photos / "sea/1.png").write_bytes(b"")
    report = index.sync()
    assert (report.removed, len(report.skipped)) == (1, 3)


def test_an_empty_folder_is_refused(tmp_path: Path, models: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        built(tmp_path, models["vse"])
    with pytest.raises(DataError, match="no such folder"):
        built(tmp_path / "none", models["vse"])


def test_a_folder_that_is_suddenly_empty_does_not_empty_the_index(
    photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models["vse"])
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(DataError, match="still has its 24 pictures"):
        index.sync()
    assert index.info().images == 24


def test_added_files_and_tags(photos: Path, models: dict[str, Path], tmp_path: Path) -> None:
    index = built(photos, models["vse"])
    elsewhere = draw(tmp_path / "elsewhere", ["x.png", "y.png"], seed=9)
    report = index.add([elsewhere[0], photos / "sea/1.png"], tags=["mine", "best"])
    assert (report.added, report.changed) == (1, 1)
    assert len(report.ids) == 2
    hits = index.search("a dog", where="tag = 'mine'").hits
    assert {hit.path for hit in hits} == {"x.png", "sea/1.png"}
    assert {hit.tags for hit in hits} == {("best", "mine")}
    assert index.picture(report.ids[0]) == elsewhere[0].resolve()
    index.sync()  # files that were added one by one stay, and bring no others in
    assert "x.png" in paths(index)
    assert "y.png" not in paths(index)
    elsewhere[0].unlink()
    index.sync()
    assert "x.png" not in paths(index)


def test_tags_stay_with_a_picture_that_changes(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    index.add([photos / "sea/1.png"], tags=["mine"])
    draw(photos, ["sea/1.png"], seed=60)
    index.sync()
    assert [hit.path for hit in index.search("a dog", where="tag = 'mine'").hits] == ["sea/1.png"]


def test_removed_pictures_are_gone_until_the_next_sync(
    photos: Path, models: dict[str, Path]
) -> None:
    index = built(photos, models["vse"])
    names = paths(index)
    assert index.remove([names["sea/1.png"], "unknown"]) == 1
    assert "sea/1.png" not in paths(index)
    assert (photos / "sea/1.png").exists()
    index.sync()
    assert paths(index) == names


def test_dates_and_sizes_come_from_the_file(tmp_path: Path, models: dict[str, Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif.get_ifd(0x8769)[0x9003] = "2023:04:05 06:07:08"
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg", exif=exif)
    exif[0x0112], exif.get_ifd(0x8769)[0x9003] = 1, "0000:00:00 00:00:00"
    Image.new("RGB", (41, 30), "blue").save(tmp_path / "b.jpg", exif=exif)
    hits = {hit.path: hit for hit in built(tmp_path, models["vse"]).search("a dog").hits}
    assert (hits["a.jpg"].width, hits["a.jpg"].height) == (30, 40)
    assert hits["a.jpg"].taken == "2023-04-05T06:07:08"
    assert (hits["b.jpg"].width, hits["b.jpg"].taken) == (41, None)


def test_files_outside_of_the_folder_are_not_given_out(
    photos: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    (secret,) = draw(tmp_path / "secret", ["s.png"], seed=3)
    (photos / "link.png").symlink_to(secret)
    index = built(photos, models["vse"])
    assert index.built is not None
    assert [path for path, _ in index.built.skipped] == ["link.png"]
    name = paths(index)["sea/1.png"]
    (photos / "sea/1.png").unlink()
    (photos / "sea/1.png").symlink_to(secret)
    with pytest.raises(IndexError_, match="leads out of"):
        index.picture(name)
    (photos / "sea/1.png").unlink()
    with pytest.raises(IndexError_, match="gone"):
        index.picture(name)


@pytest.mark.parametrize("path", ["../secret/s.png", "/etc/passwd", "sea/../../secret/s.png", "."])
def test_a_row_with_a_path_out_of_its_root_gives_nothing_out(
    path: str, photos: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    draw(tmp_path / "secret", ["s.png"], seed=3)
    index = built(photos, models["vse"])
    view = index._reader.view
    records = (replace(view.snapshot.records[0], path=path), *view.snapshot.records[1:])
    index._reader.view = replace(view, snapshot=replace(view.snapshot, records=records))
    with pytest.raises(IndexError_):
        index.picture(records[0].id)


def test_another_model_is_refused(photos: Path, models: dict[str, Path]) -> None:
    place = MemoryPlace()
    Index.build(place, model=models["scan"], source=FolderSource(photos))
    with pytest.raises(IndexError_, match=r"built with scan .* not with scan"):
        Index.open(place, model=models["other"])
    assert Index.open(place).info().images == 24


def test_a_model_that_is_gone_is_said(photos: Path, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", "vse")
    place = MemoryPlace()
    Index.build(place, model=model, source=FolderSource(photos))
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="no model here"):
        Index.open(place)
    assert Index.open(place, model=tmp_path / "elsewhere").info().images == 24


def test_a_newer_format_is_refused(photos: Path, models: dict[str, Path]) -> None:
    place = MemoryPlace()
    Index.build(place, model=models["vse"], source=FolderSource(photos))
    place.write({**place.read(), "format": 2})  # type: ignore[dict-item]
    with pytest.raises(IndexError_, match="format 2 by a newer visavis"):
        Index.open(place)
    with pytest.raises(IndexError_, match="format 2 by a newer visavis"):
        Index.build(place, model=models["vse"], source=FolderSource(photos))


@pytest.mark.parametrize("values", [{}, [], {"format": True}, {"format": 1}, {"format": 1, "x": 2}])
def test_a_damaged_manifest_is_refused(values: object) -> None:
    place = MemoryPlace()
    place.write(values)
    with pytest.raises(IndexError_, match=r"index\.json"):
        Index.open(place)


def test_no_index_is_said() -> None:
    with pytest.raises(IndexError_, match="no index here; make one"):
        Index.open(MemoryPlace())


def test_a_companion_without_vectors_is_refused(photos: Path, models: dict[str, Path]) -> None:
    with pytest.raises(IndexError_, match="no vector of a whole picture"):
        built(photos, models["scan"], companion=models["other"])


def test_a_companion_for_each_direction(photos: Path, models: dict[str, Path]) -> None:
    companions = {"t2i": models["vse"], "i2t": models["dcpa"]}
    index = built(photos, models["scan"], companion=companions)
    view = index._reader.view
    assert view.engine.space("t2i") != view.engine.space("i2t")
    assert len(view.snapshot.vectors) == 2
    assert index.info().first_stage == "vse, mean, dcpa"


def test_a_new_model_is_built_from_the_regions_that_are_there_and_then_used(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryPlace()
    old = Index.build(place, model=models["scan"], source=FolderSource(photos))
    monkeypatch.setattr(
        "visavis.search.supply.ExtractorSupply._one", lambda *_: pytest.fail("looked at again")
    )
    new = Index.build(place, model=models["vse"], source=FolderSource(photos))
    assert new.info().model.startswith("vse")
    assert paths(new).keys() == {*NAMES}
    old._reader.look_at = 0.0
    assert old.info().model.startswith("vse")  # a reader that was open goes over
    new.compact()
    assert set(place.read()["generations"]) == {"2"}  # type: ignore[index]
    assert Index.open(place).info().images == 24


def test_a_new_model_that_fails_leaves_the_old_one_in_use(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryPlace()
    Index.build(place, model=models["scan"], source=FolderSource(photos))
    with monkeypatch.context() as patched:
        patched.setattr("visavis.search.build.calibrate", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Index.build(place, model=models["vse"], source=FolderSource(photos))
    assert Index.open(place).info().model.startswith("scan")
    index = Index.build(place, model=models["vse"], source=FolderSource(photos))
    assert index.built is not None
    assert index.built.added == 0
    assert Index.open(place).info().model.startswith("vse")


def test_verify_agrees_with_what_searching_finds(index: Index) -> None:
    found = index.verify(sample=12, candidates=(10, 14, 18, 24))
    assert found.problems == ()
    assert [point.candidates for point in found.points] == [10, 14, 18, 24]
    assert found.points[-1].same_top10 == 1.0
    texts = np.random.default_rng(0).permutation(36)[:12]
    bank = index._reader.view.bank
    assert bank is not None
    for point in found.points:
        same = 0
        for place in texts:
            whole = index.search(bank.texts[place], k=10, exact=True).hits
            ours = index.search(bank.texts[place], k=10, candidates=point.candidates).hits
            same += {hit.id for hit in whole} == {hit.id for hit in ours}
        assert point.same_top10 == pytest.approx(same / 12)
    enough = [point.candidates for point in found.points if point.same_top10 >= 0.98]
    assert found.recommended == enough[0]
    assert index.info().recommended_candidates == found.recommended


def test_damage_is_found(photos: Path, models: dict[str, Path], sentences: Path) -> None:
    place = MemoryPlace()
    source = FolderSource(photos, sentences=sentences)
    index = Index.build(place, model=models["vse"], source=source)
    store: Any = place.images(1, {})
    name = paths(index)["sea/1.png"]
    store._rows[name][1]["tokens"][:] = np.nan
    assert index.verify(sample=3, candidates=(10,)).problems == (f"{name}: NaN or infinity",)


def test_whether_anything_matches_is_unknown_without_sentences(
    photos: Path, models: dict[str, Path], index: Index
) -> None:
    assert built(photos, models["vse"]).search("a dog").matches_well is None
    assert index.search("a red dog on grass").matches_well in (True, False)


def test_searching_with_a_row_taken_out_meanwhile(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    name = paths(index)["sea/1.png"]
    other = Index(index._place, index._reader.view.engine, index._reader.view)
    other.remove([name])
    index._reader.look_at = 0.0
    assert "sea/1.png" not in paths(index)


def test_watching_follows_the_folder(photos: Path, models: dict[str, Path]) -> None:
    index = built(photos, models["vse"])
    stop = threading.Event()
    watcher = threading.Thread(target=index.watch, kwargs={"interval": 0.02, "stop": stop})
    watcher.start()
    draw(photos, ["watched.png"], seed=70)
    until = time.monotonic() + 60
    while index.info().images < 25 and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    watcher.join()
    assert "watched.png" in paths(index)


def test_a_reader_that_cannot_look_again_goes_on_with_what_it_has(
    photos: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(photos, models["vse"])
    place: Any = index._place
    monkeypatch.setattr(place, "_values", {"format": 9})
    place._writes += 1
    index._reader.look_at = 0.0
    assert len(index.search("a dog", k=99).hits) == 24
    with pytest.raises(IndexError_, match="format 9"):
        index.sync()
