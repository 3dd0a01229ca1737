"""Students: what they are made of, what they learn, and which index takes them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.search_tools import model_folder
from tests.tiny_corpus import tiny_material
from visavis.data.features import FeatureIdentity, MemoryFeatures
from visavis.errors import CheckpointError, DataError, IndexError_
from visavis.mining.settings import MineConfig
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.mining import negatives_by
from visavis.search.answers import Direction
from visavis.search.distill import DistillConfig, distill, divergence
from visavis.search.encoder import Encoder
from visavis.search.engine import ModelFiles, new_engine, open_engine
from visavis.search.manifest import Generation
from visavis.search.student import FILE, Pool, Student
from visavis.search.taught import Taught
from visavis.types import Encoded, ImageBatch

MATERIAL = tiny_material(images=120)
TRAINING = MATERIAL.corpus.split("train")
SMALL = DistillConfig(dim=16, heads=3, images=32, sentences=48, batches=40, epochs=3, lr=1e-2)
TEXTS = ("a red dog on grass", "on the snow there is a blue bird")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, identity = tmp_path_factory.mktemp("models"), MATERIAL.features.identity
    return {
        "scan": model_folder(folder / "scan", "scan", identity=identity),
        "other": model_folder(folder / "other", "scan", seed=1, identity=identity),
        "dcpa": model_folder(folder / "dcpa", "dcpa", identity=identity),
    }


def taught(model: Path, config: DistillConfig = SMALL) -> Student:
    return distill(Encoder(str(model)), TRAINING, MATERIAL.features, config)


@pytest.fixture(scope="module")
def students(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("students")
    taught(models["scan"]).save(folder / "scan")
    taught(models["dcpa"], DistillConfig(dim=16, images=16, batches=2)).save(folder / "dcpa")
    return {name: folder / name for name in ("scan", "dcpa")}


def some_images(count: int = 4) -> ImageBatch:
    regions = torch.randn(count, 3, 12, generator=torch.Generator().manual_seed(0))
    return ImageBatch(regions, torch.ones(count, 3, dtype=torch.bool))


def test_a_student_finds_more_of_the_first_pictures_than_the_mean_of_tokens(
    students: dict[str, Path],
) -> None:
    details = Student.load(students["scan"]).details
    assert details["held_out"] == 12
    assert details["student"] > details["mean"] + 0.02
    assert details["images"] == 108


def test_the_same_seed_gives_the_same_student_and_leaves_the_generator_alone(
    models: dict[str, Path],
) -> None:
    short = DistillConfig(dim=8, images=16, sentences=16, batches=2, epochs=1)
    encoder = Encoder(str(models["scan"]))
    before = torch.get_rng_state()
    first, second = (distill(encoder, TRAINING, MATERIAL.features, short) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first.digest == second.digest
    other = DistillConfig(dim=8, images=16, sentences=16, batches=2, epochs=1, seed=1)
    assert taught(models["scan"], other).digest != first.digest


def test_a_pool_is_the_means_that_its_queries_attend_to() -> None:
    torch.manual_seed(0)
    pool = Pool(5, 3, 4)
    for parameter in pool.parameters():
        parameter.requires_grad = False
    tokens, mask = torch.randn(1, 6, 5), torch.tensor([[True, True, False, True, False, False]])
    real = [tokens[0, place] for place in range(6) if mask[0, place]]
    means = [torch.stack(real).mean(dim=0)]
    for query in range(2):
        weights = [math.exp(float(pool.look(token)[query])) for token in real]
        summed = torch.stack([w * token for w, token in zip(weights, real, strict=True)]).sum(dim=0)
        means.append(summed / sum(weights))
    vector = pool.join(torch.cat(means))
    found = pool(Encoded(tokens, mask))[0]
    torch.testing.assert_close(found, vector / vector.norm())
    longer = Encoded(torch.cat([tokens, torch.full((1, 2, 5), 9.0)], dim=1), mask_more(mask))
    torch.testing.assert_close(pool(longer)[0], found)


def mask_more(mask: torch.Tensor) -> torch.Tensor:
    return torch.cat([mask, torch.zeros(1, 2, dtype=torch.bool)], dim=1)


def test_an_item_without_tokens_has_a_vector_that_is_finite() -> None:
    empty = Encoded(torch.zeros(1, 2, 5), torch.zeros(1, 2, dtype=torch.bool))
    assert Pool(5, 2, 4)(empty).isfinite().all()


def test_the_loss_is_the_divergence_of_each_query_by_hand() -> None:
    told, learnt = torch.randn(4, 3), torch.randn(4, 3)
    expected = 0.0
    for query in range(3):
        p = [math.exp(float(told[row, query])) for row in range(4)]
        q = [math.exp(float(learnt[row, query])) for row in range(4)]
        for a, b in zip(p, q, strict=True):
            expected += a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) / 3
    assert divergence(told, learnt, axis=0).item() == pytest.approx(expected, abs=1e-6)
    assert divergence(told, told + 2.0, axis=1).item() == pytest.approx(0.0, abs=1e-6)


def test_a_saved_student_is_the_same_and_a_damaged_one_is_refused(
    students: dict[str, Path], models: dict[str, Path], tmp_path: Path
) -> None:
    student = taught(models["scan"], DistillConfig(dim=8, batches=2, epochs=1))
    student.save(tmp_path / "s")
    again = Student.load(tmp_path / "s")
    assert (again.digest, again.teacher) == (student.digest, student.teacher)
    values = json.loads((tmp_path / "s" / FILE).read_text(encoding="utf-8"))
    values["config"]["dim"] = 9
    (tmp_path / "s" / FILE).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match="do not fit"):
        Student.load(tmp_path / "s")
    (tmp_path / "s" / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="distill it anew"):
        Student.load(tmp_path / "s")


def test_a_student_of_another_matcher_is_refused(
    students: dict[str, Path], models: dict[str, Path]
) -> None:
    with pytest.raises(IndexError_, match=r"distilled from scan .* not from scan .*visavis distil"):
        new_engine(ModelFiles.of(models["other"], students["scan"]))


def test_pictures_and_queries_are_encoded_once(
    students: dict[str, Path], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(ModelFiles.of(models["scan"], students["scan"]))
    assert engine.spaces == {"t2i": "student", "i2t": "student"}
    seen: list[int] = []
    images, sentences = Encoder.images, Encoder.sentences

    def count_images(self: Encoder, batch: ImageBatch) -> Encoded:
        seen.append(len(batch))
        return images(self, batch)

    def count_sentences(self: Encoder, texts: Sequence[str]) -> Encoded:
        seen.append(len(texts))
        return sentences(self, texts)

    monkeypatch.setattr(Encoder, "images", count_images)
    monkeypatch.setattr(Encoder, "sentences", count_sentences)
    rows = engine.rows(some_images())
    assert rows["vector_student"].shape == (4, 16)
    found = engine.query_vectors(TEXTS, "t2i", engine.main.sentences(TEXTS))
    assert found.norm(dim=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert seen == [4, 2]


def test_a_decoupled_matcher_has_a_tower_for_each_direction_that_an_index_opens_again(
    students: dict[str, Path], models: dict[str, Path]
) -> None:
    engine = new_engine(ModelFiles.of(models["dcpa"], students["dcpa"]))
    assert engine.spaces == {"t2i": "student", "i2t": "student1"}
    generation = Generation(
        model=engine.main.place,
        companions=engine.places(),
        spaces=engine.spaces,
        features=engine.main.features,
        arrays={},
    )
    again = open_engine("here", generation)
    for direction in ("t2i", "i2t"):
        wanted = engine.sentence_vectors(TEXTS, direction)
        assert torch.equal(again.sentence_vectors(TEXTS, direction), wanted)
    assert not torch.equal(
        engine.sentence_vectors(TEXTS, "t2i"), engine.sentence_vectors(TEXTS, "i2t")
    )


def test_too_few_pictures_and_other_region_vectors_are_refused(models: dict[str, Path]) -> None:
    encoder = Encoder(str(models["scan"]))
    with pytest.raises(DataError, match="at least 20"):
        distill(encoder, MATERIAL.corpus.split("val"), MATERIAL.features, SMALL)
    identity = FeatureIdentity(extractor="precomputed", digest="others")
    other = MemoryFeatures(some_images(), identity, ("a", "b", "c", "d"))
    with pytest.raises(IndexError_, match="same extractor"):
        distill(encoder, TRAINING, other, SMALL)


@pytest.mark.parametrize("name", ["scan", "dcpa"])
def test_a_taught_matcher_scores_by_the_vectors_of_its_student(
    models: dict[str, Path], students: dict[str, Path], name: str
) -> None:
    encoder, student = Encoder(str(models[name])), Student.load(students[name])
    cheap = Taught(encoder.matcher, student)
    pictures, texts = some_images(), encoder.batch(TEXTS)
    images, sentences = cheap.encode_images(pictures), cheap.encode_sentences(texts)
    scores = cheap.score(images, sentences)
    assert scores.decoupled == (name == "dcpa")
    by_direction: dict[Direction, torch.Tensor] = {"i2t": scores.i2t, "t2i": scores.t2i}
    for direction, found in by_direction.items():
        part = student.part(direction, "")
        with torch.inference_mode():
            left = part.images(encoder.matcher.encode_images(pictures))
            right = part.sentences(encoder.matcher.encode_sentences(texts))
        torch.testing.assert_close(found, left @ right.T)
    pairs = cheap.score_pairs(images.select(slice(0, 2)), sentences)
    torch.testing.assert_close(pairs.t2i, scores.t2i[:2].diagonal())


def test_mining_takes_candidates_from_a_student_and_refuses_anothers(
    models: dict[str, Path], students: dict[str, Path], tmp_path: Path
) -> None:
    material = Material(TRAINING, MATERIAL.features)
    miner = Pretrained.from_pretrained(str(models["scan"]))
    by, student = str(models["scan"]), str(students["scan"])
    exact = negatives_by(miner, material, MineConfig(by=by, h=5), tmp_path / "exact")
    everything = MineConfig(by=by, h=5, first=student, candidates=len(TRAINING.pairs))
    found = negatives_by(miner, material, everything, tmp_path / "two")
    assert (found.sentences == exact.sentences).all()
    assert (found.images == exact.images).all()
    few = MineConfig(by=by, h=5, first=student, candidates=60)
    part = negatives_by(miner, material, few, tmp_path / "few")
    # By scores, since sentences that say the same have the same.
    assert part.sentence_scores is not None
    assert exact.sentence_scores is not None
    as_good = part.sentence_scores >= exact.sentence_scores[:, -1:] - 1e-6
    assert as_good.mean() > 0.6  # at random: a quarter of the sentences are candidates
    other = Pretrained.from_pretrained(str(models["other"]))
    with pytest.raises(IndexError_, match="distilled from scan"):
        negatives_by(other, material, few, tmp_path / "other")
