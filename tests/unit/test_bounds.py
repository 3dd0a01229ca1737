"""Upper bounds are sound for every model that has them; pruning finds what scoring all finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny import VARIANTS, images, sentences, tiny_model
from tests.unit.test_top_k import Product, items, pairs_of
from visavis.layers.best_bound import mean_of_best_bound, spread
from visavis.layers.phrase_attention import mean_of_best
from visavis.metrics.ranks import ranks
from visavis.scoring.bounds import Bounded, with_rounding
from visavis.scoring.collect import Job, Wanted
from visavis.scoring.matrix import Block, score_matrix
from visavis.scoring.sides import read_images
from visavis.scoring.top_k import top_k
from visavis.types import Encoded, Scores

BOUNDED = [name for name in VARIANTS if isinstance(tiny_model(name), Bounded)]


def model_of(variant: str, **changed: Any) -> Any:
    model: Any = tiny_model(variant)
    model.config = replace(model.config, **changed)
    return model


# Parts of DCPA by themselves have bounds of their own.
MODELS = {
    **{name: (name, {}) for name in BOUNDED},
    "dcpa-intra": ("dcpa", {"parts": "intra"}),
    "dcpa-inter": ("dcpa", {"parts": "inter"}),
    "dcpa-intra-global": ("dcpa-global", {"parts": "intra"}),
    "mmca-alone": ("mmca", {"alpha": 0.0}),
}
every_model = pytest.mark.parametrize("name", MODELS)


def sides(model: Any, lengths: tuple[list[int], list[int]], seed: int) -> tuple[Encoded, Encoded]:
    with torch.inference_mode():
        return (
            model.encode_images(images(tuple(lengths[0]), seed=seed)),
            model.encode_sentences(sentences(tuple(lengths[1]), seed=seed + 1)),
        )


def test_the_models_with_bounds_are_these() -> None:
    assert {VARIANTS[name][0] for name in BOUNDED} >= {"vse", "vsrn", "saem", "mmca", "dcpa"}


@every_model
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5).map(lambda ends: [5, *ends]),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 10**6),
)
def test_no_score_lies_above_its_bound(
    name: str, regions: list[int], words: list[int], seed: int
) -> None:
    variant, changed = MODELS[name]
    model = model_of(variant, **changed)
    left, right = sides(model, (regions, words), seed)
    with torch.inference_mode():
        scores, bounds = model.score(left, right), model.upper_bounds(left, right)
    assert bounds.i2t.shape == scores.i2t.shape
    assert (scores.i2t <= with_rounding(bounds.i2t)).all()
    assert (scores.t2i <= with_rounding(bounds.t2i)).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 6), st.integers(1, 9), st.integers(0, 3), st.integers(0, 9999)
)
def test_the_mean_of_the_best_is_below_its_bound(
    regions: int, k: int, dim: int, axes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(4, regions, dim, generator=generator)
    vectors[1] = vectors[1, :1]  # all alike
    lengths = torch.randint(1, regions + 1, (4,), generator=generator)
    mask = torch.arange(regions)[None] < lengths[:, None]
    others = torch.randn(5, dim, generator=generator)
    products = torch.einsum("nrd,md->nmr", vectors, others)
    exact = mean_of_best(products, mask[:, None], k)
    bound = mean_of_best_bound(spread(vectors, mask, k, axes=max(1, axes)), others)
    assert (exact <= with_rounding(bound)).all()
    few = lengths <= k  # the mean of all: nothing is left open
    torch.testing.assert_close(bound[few], exact[few], atol=1e-4, rtol=1e-4)


def test_the_bound_of_two_groups_is_reached() -> None:
    # Two values alone, three times 1 and three times -1: the proof has equality everywhere.
    vectors = torch.tensor([[[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3])
    parts = spread(vectors, torch.ones(1, 6, dtype=torch.bool), 3)
    bound = mean_of_best_bound(parts, torch.tensor([[1.0, 0.0]]))
    assert bound.item() == pytest.approx(1.0, abs=1e-4)


def assert_same(found: Any, usual: Any, whole: Scores) -> None:
    for ids, scores, matrix, expected in (
        (found.sentences, found.sentence_scores, whole.i2t, usual.sentence_scores),
        (found.images, found.image_scores, whole.t2i.T, usual.image_scores),
    ):
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
        real = ids >= 0  # an item stands where its score says, whichever of nearly equal ones
        named = matrix.gather(1, ids.long().clamp_min(0))
        torch.testing.assert_close(named[real], scores[real], atol=1e-5, rtol=1e-5)


@every_model
def test_pruning_finds_what_scoring_everything_finds(name: str) -> None:
    variant, changed = MODELS[name]
    model = model_of(variant, **changed)
    left, right = sides(model, ([5, 3, 5, 1, 4, 5] * 5, [4, 3, 6, 3, 2, 6, 5] * 6), 3)
    pairs = pairs_of(30, 42)
    for without in (False, True):
        wanted = Wanted(sentences=3, images=2, pairs=pairs, ranks=True, without_pairs=without)
        usual = top_k(model, left, right, wanted)
        found = top_k(model, left, right, wanted, job=Job(prune=True))
        assert_same(found, usual, score_matrix(model, left, right))
        assert found.ranks is not None
        assert usual.ranks is not None
        assert np.array_equal(found.ranks.i2t, usual.ranks.i2t)
        assert np.array_equal(found.ranks.t2i, usual.ranks.t2i)


class Loose(Product):
    """Bounds that lie above the scores by chance."""

    def __init__(self, slack: float, *, decoupled: bool = False) -> None:
        super().__init__(decoupled=decoupled)
        self.slack = slack

    def upper_bounds(self, left: Encoded, right: Encoded) -> Scores:
        found = super().score(left, right)
        noise = torch.rand(found.i2t.shape, generator=torch.Generator().manual_seed(0))
        if self.slack == torch.inf:
            return Scores.shared(torch.full_like(found.i2t, torch.inf))
        return Scores(found.i2t + self.slack * noise, found.t2i + self.slack * noise)


@pytest.mark.parametrize("slack", [0.0, 0.3, 3.0, torch.inf])
@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("memory", [2**28, 24 * 200 * 3])
@pytest.mark.parametrize("decoupled", [False, True])
def test_whatever_the_bounds_are_worth_the_answers_are_exact(
    slack: float, levels: int, memory: int, *, decoupled: bool
) -> None:
    left, right = items(60, 0, levels=levels), items(200, 1, levels=levels)
    pairs = pairs_of(60, 200)
    model: Any = Loose(slack, decoupled=decoupled)
    wanted = Wanted(sentences=5, images=4, pairs=pairs, ranks=True)
    block = Block(memory_bytes=memory)
    found = top_k(model, left, right, wanted, block=block, job=Job(prune=True))
    usual = top_k(model, left, right, wanted)
    exact = ranks(score_matrix(model, left, right), pairs)
    if levels:  # equal scores are equal to the bit: the lower number is first
        assert torch.equal(found.sentences, usual.sentences)
        assert torch.equal(found.images, usual.images)
    torch.testing.assert_close(found.sentence_scores, usual.sentence_scores)
    torch.testing.assert_close(found.image_scores, usual.image_scores)
    assert found.ranks is not None
    assert np.array_equal(found.ranks.i2t, exact.i2t)
    assert np.array_equal(found.ranks.t2i, exact.t2i)


def test_tight_bounds_leave_little_to_be_scored_and_loose_ones_everything() -> None:
    left, right = items(50, 0), items(400, 1)
    shares = []
    for slack in (0.0, 0.2, torch.inf):
        model: Any = Loose(slack)
        found = top_k(model, left, right, Wanted(sentences=5, images=0), job=Job(prune=True))
        shares.append(found.scored[0] / (50 * 400))
        assert found.scored[1] == 0
    assert shares[0] == pytest.approx(16 / 400)  # the first candidates, and no more
    assert shares[0] < shares[1] < 0.5
    assert 1 <= shares[2] < 1.1


class Rising(Loose):
    """What is seen, to see in which order."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.seen: list[Tensor] = []

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        found = super().score_pairs(left, right)
        self.seen.append(found.i2t)
        return found


def test_the_highest_bounds_come_first() -> None:
    left, right = items(1, 0), items(300, 1)
    model: Any = Rising()
    top_k(model, left, right, Wanted(sentences=3, images=0), job=Job(prune=True))
    whole = score_matrix(model, left, right).i2t[0].sort(descending=True).values
    (seen,) = model.seen
    torch.testing.assert_close(seen.sort(descending=True).values, whole[:16])


def test_what_cannot_be_pruned_is_refused() -> None:
    left, right = items(3, 0), items(4, 1)
    loose: Any = Loose(0.1)
    plain: Any = Product()
    with pytest.raises(ValueError, match="no upper_bounds"):
        top_k(plain, left, right, job=Job(prune=True))
    with pytest.raises(ValueError, match="precision fp32"):
        top_k(loose, left, right, block=Block(precision="bf16"), job=Job(prune=True))
    side = read_images(loose, lambda rows: None, 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="give encoded items"):
        top_k(loose, side, right, job=Job(prune=True))
