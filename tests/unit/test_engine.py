"""Trained models through the engine: ranks without a matrix, what results files say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.pages import ROOT
from tests.tiny import images, sentences, tiny_model
from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.data.corpus import Corpus
from visavis.evaluation.saved import as_json, load, save
from visavis.kernels.choose import using, usual_kernel
from visavis.metrics.ranks import ranks
from visavis.models.pretrained import Pretrained
from visavis.recipes import engine as engine_module
from visavis.recipes.assemble import Material, assemble
from visavis.recipes.engine import Engine, ranker_of, scorer_of
from visavis.recipes.measure import measure
from visavis.recipes.variants import Variants, Work, measure_variants
from visavis.scoring.matrix import Block, score_matrix
from visavis.scoring.meter import Meter, total

MATERIAL = tiny_material()
TEST = Material(MATERIAL.corpus.split("train"), MATERIAL.features)


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    torch.manual_seed(0)
    found = assemble(tiny_recipe(epochs=1), MATERIAL).pretrained
    found.model.eval()
    return found


@pytest.mark.parametrize("held", [True, False])
def test_ranks_without_a_matrix_are_those_of_the_matrix(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    if not held:  # more than memory may hold: encoded when needed
        monkeypatch.setattr(engine_module, "HELD_BYTES", 0)
    corpus = TEST.corpus
    expected = ranks(scorer_of(pretrained, TEST.features)(corpus), corpus.pairs)
    told: list[int] = []
    engine = Engine(block=Block(rows=5), advance=told.append)
    meter = Meter(engine.block)
    found = ranker_of(pretrained, TEST.features, engine=engine, meter=meter)(corpus)
    assert np.array_equal(found.i2t, expected.i2t)
    assert np.array_equal(found.t2i, expected.t2i)
    assert sum(told) == len(corpus.image_ids)
    assert meter.pairs == len(corpus.image_ids) * len(corpus.sentence_ids)
    assert meter.encode > 0
    assert meter.score > 0


def test_a_model_that_was_training_trains_on(pretrained: Pretrained) -> None:
    pretrained.model.train()
    ranker_of(pretrained, TEST.features)(TEST.corpus)
    assert pretrained.model.training
    pretrained.model.eval()


def counted(pretrained: Pretrained) -> tuple[Pretrained, list[int]]:
    model: Any = pretrained.model
    seen: list[int] = []
    score = type(model).score

    class Counted(type(model)):  # type: ignore[misc]
        def score(self, images: Any, sentences: Any) -> Any:
            seen.append(len(images) * len(sentences))
            return score(self, images, sentences)

    other = Counted(model.config)
    other.load_state_dict(model.state_dict())
    return replace(pretrained, model=other.eval()), seen


def test_a_fold_that_was_finished_before_a_kill_is_scored_no_more(
    pretrained: Pretrained, tmp_path: Path
) -> None:
    model, seen = counted(pretrained)
    engine = Engine(ledgers=tmp_path / "results.json.partial")
    first = ranker_of(model, TEST.features, engine=engine)(TEST.corpus)
    assert sum(seen) == len(TEST.corpus.image_ids) * len(TEST.corpus.sentence_ids)
    seen.clear()
    again = ranker_of(model, TEST.features, engine=engine)(TEST.corpus)
    assert not seen
    assert np.array_equal(first.i2t, again.i2t)
    with torch.no_grad():
        next(iter(model.model.parameters())).add_(0.1)
    ranker_of(model, TEST.features, engine=engine)(TEST.corpus)
    assert seen  # other weights are another job


def test_results_say_how_they_were_scored(pretrained: Pretrained, tmp_path: Path) -> None:
    found = measure(pretrained, TEST, "full", name="tiny")
    values = as_json(found)["scoring"]
    assert isinstance(values, dict)
    assert set(values) == {
        "seconds_encode",
        "seconds_score",
        "pairs",
        "precision",
        "kernel",
        "threads",
        "budget_bytes",
        "memory_bytes",
    }
    assert values["pairs"] == len(TEST.corpus.image_ids) * len(TEST.corpus.sentence_ids)
    assert values["precision"] == "fp32"
    assert values["kernel"] == usual_kernel()
    save(found, tmp_path / "results.json")
    assert load(tmp_path / "results.json").scoring == found.scoring


def test_every_row_says_how_it_was_scored(pretrained: Pretrained, tmp_path: Path) -> None:
    from visavis.evaluation.variants import EnsembleConfig, RerankConfig

    variants = Variants(ensemble=EnsembleConfig(), rerank=RerankConfig(k=(2,)))
    models = [("one", pretrained), ("two", pretrained)]
    rows = measure_variants(models, TEST, "full", variants, Work(scratch=tmp_path))
    each = len(TEST.corpus.image_ids) * len(TEST.corpus.sentence_ids)
    pairs = [row.scoring.pairs for row in rows if row.scoring is not None]
    assert pairs == [each, each, 2 * each, each, each, 2 * each]


def test_in_bfloat16_the_row_says_what_changed(pretrained: Pretrained, tmp_path: Path) -> None:
    block = Block(precision="bf16")
    work = Work(scratch=tmp_path, block=block, rank_changes=True)
    (row,) = measure_variants([("tiny", pretrained)], TEST, "full", Variants(), work)
    assert row.scoring is not None
    assert row.scoring.precision == "bf16"
    changes: Any = row.details["rank_changes"]
    assert 0 < changes["max_error"] < 0.02
    assert set(changes["recall"]) >= {"i2t_r1", "t2i_r10", "rsum"}


def test_results_of_before_can_be_read() -> None:
    files = sorted((ROOT / "results").glob("*.json"))
    assert len(files) > 10
    old = [load(path) for path in files]
    assert any(each.scoring is None for each in old)
    assert all(each.metrics["rsum"] > 0 for each in old)


def test_results_name_the_forms_of_attention_that_ran() -> None:
    model: Any = tiny_model("bfan-plain")
    model.config = replace(model.config, plain=False)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    meters = [Meter(), Meter()]
    for meter, name in zip(meters, ("eager", "auto"), strict=True):
        with using(name), meter.scoring(1):
            score_matrix(model, left, right)
    parts = [total(each) for each in (meters[:1], meters, [Meter()])]
    names = [set(part.kernel.split(", ")) for part in parts if part is not None]
    assert names == [{"eager"}, {"eager", usual_kernel()}, {"none"}]


def test_nothing_took_no_time() -> None:
    assert total([]) is None


def test_the_identity_of_a_fold_is_its_own(pretrained: Pretrained, tmp_path: Path) -> None:
    model, seen = counted(pretrained)
    engine = Engine(ledgers=tmp_path)
    halves: list[Corpus] = [TEST.corpus.select(range(12)), TEST.corpus.select(range(12, 24))]
    for half in halves:
        ranker_of(model, TEST.features, engine=engine)(half)
    assert len(list(tmp_path.iterdir())) == 2
    assert sum(seen) == sum(len(h.image_ids) * len(h.sentence_ids) for h in halves)
