"""Sources made of sources: asked once, averaged, re-ranked, and refused where they must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny_corpus import tiny_material, tiny_tokenizer
from visavis.data.corpus import Corpus
from visavis.errors import DataError, MissingExtraError
from visavis.evaluation.evaluate import Evaluation, evaluate
from visavis.evaluation.protocols import Protocol
from visavis.evaluation.report import as_markdown, evaluation_grid
from visavis.evaluation.variants import (
    EnsembleConfig,
    RerankConfig,
    Source,
    check_galleries,
    ensemble,
    kept,
    reranked,
)
from visavis.metrics.significance import Resampling
from visavis.models import config_class, model_class
from visavis.models.pretrained import Pretrained
from visavis.recipes.rerank_curves import draw_rerank_curves, rerank_curves
from visavis.recipes.variants import text_vectors
from visavis.rerank.groups import Kind, nearest, oracle
from visavis.rerank.reciprocal import ReciprocalConfig, rerank
from visavis.types import Encoded, Scores

QUICK = Resampling(resamples=20)


def toy(images: int = 8, each: int = 3) -> Corpus:
    owners = np.repeat(np.arange(images), each)
    return Corpus(
        name="toy",
        image_ids=tuple(f"i{i}" for i in range(images)),
        image_splits=("test",) * images,
        sentence_ids=tuple(f"s{j}" for j in range(len(owners))),
        sentence_texts=tuple(f"sentence {j}" for j in range(len(owners))),
        pairs=np.stack([owners, np.arange(len(owners))], axis=1),
        rows=np.arange(images),
    )


CORPUS = toy()
PROTOCOL = Protocol("full", CORPUS, (CORPUS,))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def source(seed: int = 0, name: str = "model") -> Source:
    vectors = drawn(seed + 50, 24, 4)
    scores = Scores.shared(drawn(seed, 8, 24))
    return Source(name, lambda _: scores, {}, lambda _: (vectors, vectors))


def measured(made: Source) -> Evaluation:
    return evaluate(made.score, PROTOCOL, name=made.name, details=made.details, resampling=QUICK)


def test_a_kept_source_is_asked_once_for_each_fold(tmp_path: Path) -> None:
    asked: list[Corpus] = []

    def score(corpus: Corpus) -> Scores:
        asked.append(corpus)
        return Scores.shared(torch.full((2, 3), float(len(asked))))

    once = kept(Source("model", score), tmp_path)
    first, second = toy(2, 1), toy(3, 1)
    found = [float(once.score(fold).i2t[0, 0]) for fold in (first, second, first, second)]
    assert found == [1.0, 2.0, 1.0, 2.0]
    assert len(asked) == 2


@pytest.mark.parametrize("neighbours", ["none", "learned", "oracle"])
def test_each_k_gives_what_the_library_gives(neighbours: Kind, tmp_path: Path) -> None:
    model = source()
    vectors, _ = model.text_vectors(CORPUS) if model.text_vectors else (torch.zeros(0),) * 2
    groups = {
        "none": None,
        "learned": nearest(vectors @ vectors.T, 4),
        "oracle": oracle(CORPUS.pairs, 24),
    }[neighbours]
    config = RerankConfig(k=(2, 5), neighbours=neighbours, group=4)
    for k, made in zip(config.k, reranked(model, config, tmp_path), strict=True):
        expected = rerank(model.score(CORPUS), groups, ReciprocalConfig(k=k))
        assert torch.equal(made.score(CORPUS).i2t, expected.i2t)
        assert torch.equal(made.score(CORPUS).t2i, expected.t2i)
        assert made.name.startswith(f"model RR k={k}")


def test_the_similarity_of_an_ensemble_is_the_mean_of_similarities(tmp_path: Path) -> None:
    parts = [source(0, "a"), source(1, "b")]
    made = ensemble(parts, EnsembleConfig(weights=(3.0, 1.0)), tmp_path)
    assert made.text_vectors is not None
    left, right = made.text_vectors(CORPUS)
    products = [v @ v.T for v in (drawn(50, 24, 4), drawn(51, 24, 4))]
    torch.testing.assert_close(left @ right.T, 0.75 * products[0] + 0.25 * products[1])


def test_an_ensemble_has_no_similarity_when_one_model_has_none(tmp_path: Path) -> None:
    parts = [source(0, "a"), replace(source(1, "b"), text_vectors=None)]
    made = ensemble(parts, EnsembleConfig(), tmp_path)
    with pytest.raises(DataError, match="mean of 2: has no text-text similarity"):
        reranked(made, RerankConfig(neighbours="learned"), tmp_path)


def test_ensembles_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an ensemble of 1"):
        ensemble([source()], EnsembleConfig(), tmp_path)
    with pytest.raises(DataError, match="3 weights for 2 models"):
        ensemble([source(), source()], EnsembleConfig(weights=(1.0, 1.0, 1.0)), tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RerankConfig(k=(5, 9)), "k 9 for a gallery of 8 images"),
        (RerankConfig(k=(5,), neighbours="learned", group=25), "groups of 25 among 24 sentences"),
    ],
)
def test_folds_too_small_are_refused_before_scoring(config: RerankConfig, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_galleries(PROTOCOL, config)


def rows(neighbours: Kind, folder: Path) -> list[Evaluation]:
    config = RerankConfig(k=(2, 4, 8), neighbours=neighbours)
    return [measured(made) for made in (source(), *reranked(source(), config, folder))]


def test_tables_refuse_figures_made_with_ground_truth(tmp_path: Path) -> None:
    found = rows("oracle", tmp_path)
    with pytest.raises(DataError, match="re-ranked with ground truth"):
        evaluation_grid(found)
    with pytest.raises(DataError, match="re-ranked with ground truth"):
        evaluation_grid([replace(found[1], name="a better name")])
    page = as_markdown(evaluation_grid(found, diagnostics=True))
    assert "model RR k=2, ORACLE (diagnostic)" in page
    assert "a diagnostic, not a result" in page


def test_tables_say_that_rows_are_reranked(tmp_path: Path) -> None:
    page = as_markdown(evaluation_grid(rows("none", tmp_path)))
    assert "RR: reciprocal re-ranking" in page
    assert "ORACLE" not in page
    assert "RR" not in as_markdown(evaluation_grid([measured(source())]))


def test_a_sweep_gathers_the_rows_of_a_model(tmp_path: Path) -> None:
    found = rows("learned", tmp_path)
    (curve,) = rerank_curves(found)
    assert curve.plain is found[0]
    assert [curve.points[k] for k in (2, 4, 8)] == found[1:]
    draw_rerank_curves(found, tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="nothing to plot against K"):
        draw_rerank_curves(found[:1], tmp_path / "none.png")


def test_drawing_without_matplotlib_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"visavis\[plot\]"):
        draw_rerank_curves(rows("none", tmp_path), tmp_path / "k.png")


def untrained(name: str) -> tuple[Pretrained, Corpus]:
    material = tiny_material(images=6, held_out=2)
    tokenizer = tiny_tokenizer(material.corpus)
    torch.manual_seed(0)
    config = config_class(name)(
        region_dim=material.features.dim, vocab_size=tokenizer.vocab_size, dim=8
    )
    model = model_class(name)(config)
    found = Pretrained(name, model, tokenizer, material.features.identity)
    return found, material.corpus.split("test")


def encoded_alone(pretrained: Pretrained, text: str) -> Encoded:
    model = pretrained.model.eval()
    found: Encoded = model.encode_sentences(pretrained.tokenizer.encode([text]))  # type: ignore[operator]
    return found


def test_sentences_of_a_one_vector_model_are_compared_by_that_vector() -> None:
    pretrained, corpus = untrained("vse")
    left, right = text_vectors(pretrained, corpus)
    assert torch.equal(left, right)
    for text, vector in zip(corpus.sentence_texts, left, strict=True):
        torch.testing.assert_close(vector, encoded_alone(pretrained, text).tokens[0, 0])


def test_sentences_without_a_vector_are_compared_by_the_mean_of_their_words() -> None:
    pretrained, corpus = untrained("scan")
    pretrained.model.train()
    left, _ = text_vectors(pretrained, corpus)
    assert pretrained.model.training
    for text, vector in zip(corpus.sentence_texts, left, strict=True):
        mean = encoded_alone(pretrained, text).tokens[0].mean(dim=0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-6, rtol=1e-5)


def test_a_model_that_learned_a_similarity_is_asked_for_it() -> None:
    pretrained, corpus = untrained("scan")

    class Compares(type(pretrained.model)):  # type: ignore[misc]
        def text_vectors(self, sentences: Encoded) -> tuple[Tensor, Tensor]:
            first = sentences.tokens[:, 0]
            return first, -first

    pretrained.model.__class__ = Compares
    left, right = text_vectors(pretrained, corpus)
    assert torch.equal(left, -right)
