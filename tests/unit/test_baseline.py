"""The linear baseline: its parts by hand and by textbook formulas, the whole on planted data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError
from visavis.evaluation.baseline import (
    GRID,
    choose_ridge,
    feature_rows,
    fit_baseline,
    mean_vectors,
)
from visavis.evaluation.cca import BagOfWords, Moments, Ridge, TfIdf
from visavis.evaluation.evaluate import evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.metrics.significance import Resampling
from visavis.types import ImageBatch

COLOURS = ("red", "green", "blue", "white", "black", "brown")
THINGS = ("dog", "cat", "horse", "bird", "boat", "child")


class ArrayFeatures:
    """Features in memory that note which rows were read."""

    def __init__(
        self, regions: torch.Tensor, mask: torch.Tensor, ids: Sequence[str] | None = None
    ) -> None:
        self.regions, self.mask, self.ids = regions, mask, ids
        self.identity = FeatureIdentity(extractor="test")
        self.rows_read: set[int] = set()

    @property
    def dim(self) -> int:
        return self.regions.shape[2]

    def __len__(self) -> int:
        return len(self.regions)

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        self.rows_read.update(rows.tolist())
        return ImageBatch(self.regions[rows], self.mask[rows])


def planted(images: int, seed: int = 0) -> tuple[Corpus, ArrayFeatures]:
    """Images of one coloured thing: a region shows the colour, another the thing; two sentences."""
    generator = np.random.default_rng(seed)
    colours, things = generator.integers(0, 6, images), generator.integers(0, 6, images)
    codes = np.random.default_rng(99).normal(size=(12, 16)).astype(np.float32)
    regions = np.stack([codes[colours], codes[6 + things]], axis=1)
    regions += 0.3 * generator.normal(size=regions.shape).astype(np.float32)
    texts = [
        text
        for colour, thing in zip(colours, things, strict=True)
        for text in (
            f"A {COLOURS[colour]} {THINGS[thing]}.",
            f"there is a {THINGS[thing]}, it is {COLOURS[colour]}",
        )
    ]
    pairs = np.stack([np.repeat(np.arange(images), 2), np.arange(2 * images)], axis=1)
    corpus = Corpus(
        name="planted",
        image_ids=tuple(f"i{i}" for i in range(images)),
        image_splits=tuple("train" if i < images * 3 // 4 else "test" for i in range(images)),
        sentence_ids=tuple(f"s{j}" for j in range(2 * images)),
        sentence_texts=tuple(texts),
        pairs=pairs,
        rows=np.arange(images),
    )
    mask = torch.ones(images, 2, dtype=torch.bool)
    return corpus, ArrayFeatures(torch.from_numpy(regions), mask)


def test_tf_idf_by_hand() -> None:
    words = TfIdf.fit(["A dog, a cat", "a dog", "A bird!"], min_count=2)
    assert words.places == {"a": 0, "dog": 1}  # of three and of two sentences
    common, rare = 1.0, np.log(4 / 3) + 1  # log((1 + 3) / (1 + 3)) + 1, log((1 + 3) / (1 + 2)) + 1
    rows = words.transform(["A DOG a", "bird", "dog"]).toarray()
    assert rows[0] == pytest.approx(np.array([2 * common, rare]) / np.hypot(2 * common, rare))
    assert rows[1:].tolist() == [[0, 0], [0, 1]]


def test_letters_of_every_script_make_words() -> None:
    words = TfIdf.fit(["Ein Mädchen", "ein Mädchen_1"], min_count=1)
    assert set(words.places) == {"ein", "mädchen", "1"}


def test_text_without_a_frequent_word_is_refused() -> None:
    with pytest.raises(DataError, match="no word stands in 5 of 2 sentences"):
        TfIdf.fit(["a dog", "a cat"])


def random_pairs(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(40, 4)).astype(np.float32)
    owners = np.sort(np.append(np.arange(40), generator.integers(0, 40, 80)))  # one to many each
    bags = generator.normal(size=(120, 5)) + vectors[owners] @ generator.normal(size=(4, 5))
    return vectors, bags, np.stack([owners, np.arange(120)], axis=1)


def test_moments_equal_those_of_the_pairs_laid_out() -> None:
    vectors, bags, pairs = random_pairs(0)
    found = Moments.of(vectors, sparse.csr_array(bags), np.concatenate([pairs, pairs[:3]]))
    images, sentences = vectors[pairs[:, 0]].astype(np.float64), bags[pairs[:, 1]]
    together = np.cov(images.T, sentences.T, bias=True)
    np.testing.assert_allclose(found.image, together[:4, :4], atol=1e-10)
    np.testing.assert_allclose(found.text, together[4:, 4:], atol=1e-10)
    np.testing.assert_allclose(found.cross, together[:4, 4:], atol=1e-10)
    np.testing.assert_allclose(found.image_mean, images.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(found.text_mean, sentences.mean(axis=0), atol=1e-10)


def test_axes_are_the_canonical_ones() -> None:
    vectors, bags, pairs = random_pairs(1)
    moments = Moments.of(vectors, sparse.csr_array(bags), pairs)
    none = TfIdf({}, np.zeros(5))
    model = BagOfWords.solve(none, moments, dims=4, ridge=Ridge(image=1e-9, text=1e-9))
    images = (vectors[pairs[:, 0]] - model.image_mean) @ model.image_axes
    sentences = (bags[pairs[:, 1]] - model.text_mean) @ model.text_axes
    together = np.corrcoef(images.T, sentences.T)[:4, 4:]
    # Hotelling: squared correlations are the eigenvalues of Cxx^-1 Cxy Cyy^-1 Cyx.
    product = np.linalg.solve(moments.image, moments.cross) @ np.linalg.solve(
        moments.text, moments.cross.T
    )
    expected = np.sqrt(np.sort(np.linalg.eigvals(product).real)[::-1])
    np.testing.assert_allclose(together, np.diag(expected), atol=1e-5)
    # Each axis is as long as its correlation.
    np.testing.assert_allclose(images.std(axis=0), expected, rtol=1e-5)


def test_scores_are_cosines() -> None:
    corpus, features = planted(80)
    vectors = mean_vectors(features, np.arange(80))
    model = BagOfWords.fit(vectors, corpus.sentence_texts, corpus.pairs, dims=5)
    scores = model.score(vectors[:7], ["a red dog", "words nobody knows"])
    assert scores.shape == (7, 2)
    assert scores.dtype == torch.float32
    assert scores.abs().max() <= 1 + 1e-6
    again = model.score(3 * vectors[:7] - 2 * model.image_mean.astype(np.float32), ["a red dog"])
    torch.testing.assert_close(again, scores[:, :1])  # a longer vector is no better


def test_a_planted_relation_is_found_on_unseen_images() -> None:
    corpus, features = planted(400)
    baseline = fit_baseline(corpus.split("train"), features)
    protocol = make_protocol("full", corpus.split("test"))
    found = evaluate(baseline, protocol, name="cca", resampling=Resampling(resamples=10))
    # 100 images of 36 kinds: of about three alike, one is right.
    assert found.metrics["rsum"] > 5 * found.chance["rsum"]
    assert found.metrics["t2i_r10"] > 80


def test_fitting_reads_train_alone() -> None:
    corpus, features = planted(100)
    fit_baseline(corpus.split("train"), features)
    assert features.rows_read == set(range(75))


def test_the_ridge_is_chosen_alike_every_time_and_told() -> None:
    corpus, features = planted(60)
    vectors = mean_vectors(features, np.arange(60))
    told: list[tuple[int, int]] = []
    first, second = (
        choose_ridge(
            vectors,
            corpus.sentence_texts,
            corpus.pairs,
            seed=4,
            on_step=lambda done, total: told.append((done, total)),
        )
        for _ in range(2)
    )
    assert first == second
    assert told == 2 * [(step, len(GRID)) for step in range(1, len(GRID) + 1)]


def test_too_few_images_to_leave_some_out_are_refused() -> None:
    corpus, features = planted(9)
    vectors = mean_vectors(features, np.arange(9))
    with pytest.raises(DataError, match="ten are needed"):
        choose_ridge(vectors, corpus.sentence_texts, corpus.pairs)


def test_mean_vectors_count_real_regions_by_group() -> None:
    regions = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0], [7.0, 8.0]]])
    mask = torch.tensor([[True, True, False, True]])
    features = ArrayFeatures(regions, mask)
    rows = np.array([0])
    assert mean_vectors(features, rows).tolist() == [[pytest.approx(11 / 3), pytest.approx(14 / 3)]]
    by_group = mean_vectors(features, rows, [slice(0, 2), slice(2, 4)])
    assert by_group.tolist() == [[2.0, 3.0, 7.0, 8.0]]
    assert mean_vectors(features, rows, [slice(2, 3)]).tolist() == [[0.0, 0.0]]


def test_rows_are_found_by_id_before_place() -> None:
    corpus, features = planted(4)
    features.ids = ["i3", "i2", "i1", "i0"]
    assert feature_rows(corpus, features).tolist() == [3, 2, 1, 0]
    features.ids = None
    assert feature_rows(corpus, features).tolist() == [0, 1, 2, 3]


def test_images_without_features_are_refused() -> None:
    corpus, features = planted(4)
    features.ids = ["i0", "i1", "i2", "other"]
    with pytest.raises(DataError, match="1 images have no features, 'i3' first"):
        feature_rows(corpus, features)


def test_rows_beyond_the_features_are_refused() -> None:
    corpus, _ = planted(5)
    _, features = planted(4)
    with pytest.raises(DataError, match="row 4 is wanted, the features have 4"):
        feature_rows(corpus, features)


def test_vectors_with_nan_are_refused() -> None:
    corpus, _ = planted(20)
    vectors = np.full((20, 3), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="all finite"):
        BagOfWords.fit(vectors, corpus.sentence_texts, corpus.pairs)


def test_vectors_of_another_width_are_refused() -> None:
    corpus, features = planted(40)
    model = BagOfWords.fit(
        mean_vectors(features, np.arange(40)), corpus.sentence_texts, corpus.pairs
    )
    with pytest.raises(DataError, match="fitted on"):
        model.score(np.zeros((2, 5), dtype=np.float32), ["a dog"])


def test_images_that_are_all_alike_still_give_scores() -> None:
    corpus, _ = planted(20)
    model = BagOfWords.fit(np.ones((20, 3), dtype=np.float32), corpus.sentence_texts, corpus.pairs)
    assert torch.isfinite(model.score(np.ones((2, 3), dtype=np.float32), ["a dog"])).all()


def test_a_ridge_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Ridge(image=0.0)
