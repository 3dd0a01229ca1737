"""Focal attention: which sources stay, and what becomes of the cases that divide by zero."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny import DIM, REGION_DIM, VOCAB, images, sentences
from visavis.layers.text import TextConfig
from visavis.models.bfan import Bfan, BfanConfig, Focal, focal_part, focal_weights_plain
from visavis.types import ImageBatch, SentenceBatch

each_focal = pytest.mark.parametrize("focal", get_args(Focal))
each_direction = pytest.mark.parametrize("direction", ["both", "t2i", "i2t"])


def bfan(**options: Any) -> Bfan:
    torch.manual_seed(0)
    text = TextConfig(word_dim=6)
    config = BfanConfig(region_dim=REGION_DIM, vocab_size=VOCAB, dim=DIM, text=text, **options)
    return Bfan(config).eval()


def scores(model: Bfan, left: ImageBatch, right: SentenceBatch) -> Tensor:
    return model.score(model.encode_images(left), model.encode_sentences(right)).i2t


def row(*weights: float) -> tuple[Tensor, Tensor]:
    found = torch.tensor([weights])
    return found, found > 0


def test_equal_keeps_what_is_above_the_mean() -> None:
    # The mean of the three real sources is 1/3; with the padding it would be 1/4.
    weights = focal_part(*row(0.30, 0.40, 0.30, 0.0), "equal")
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.4, 0.0, 0.0]]))


def test_prob_keeps_what_is_above_the_weighted_mean() -> None:
    # Roots 0.8, 0.5, 0.331662: (0.512 + 0.125 + 0.036483) / 1.631662 = 0.412759.
    weights = focal_part(*row(0.64, 0.25, 0.11), "prob")
    torch.testing.assert_close(weights, torch.tensor([[0.64, 0.0, 0.0]]))


def test_prob_is_stricter_than_equal() -> None:
    # Threshold of `prob`: (0.407891 + 0.140296 + 2 * 0.027) / 1.861235 = 0.323543; `equal`: 0.25.
    given_weights = row(0.55, 0.27, 0.09, 0.09)
    assert (focal_part(*given_weights, "equal") > 0).tolist() == [[True, True, False, False]]
    assert (focal_part(*given_weights, "prob") > 0).tolist() == [[True, False, False, False]]


@each_focal
@pytest.mark.parametrize("count", [1, 2, 3, 7, 36])
def test_sources_that_are_all_alike_all_stay(count: int, focal: Focal) -> None:
    weights = torch.zeros(count).softmax(dim=0)[None]
    kept = focal_part(weights, torch.ones(1, count).bool(), focal)
    torch.testing.assert_close(kept, weights)


@each_focal
@given(st.integers(0, 10_000), st.floats(0.1, 20.0))
@settings(max_examples=25, deadline=None)
def test_closed_form_equals_the_pairwise_comparison(focal: Focal, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 1, 9, generator=generator) < 0.7
    mask[..., 0] = True
    logits = scale * torch.randn(3, 4, 9, generator=generator, dtype=torch.float64)
    weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    found = focal_part(weights, mask, focal)
    expected = focal_weights_plain(weights, mask, focal)
    torch.testing.assert_close(found / found.sum(dim=-1, keepdim=True), expected)
    torch.testing.assert_close(expected.sum(dim=-1), torch.ones(3, 4, dtype=torch.float64))


@each_focal
@each_direction
@pytest.mark.parametrize("plain", [False, True])
def test_one_word_or_one_region_is_finite(focal: Focal, direction: str, *, plain: bool) -> None:
    model = bfan(focal=focal, direction=direction, plain=plain)
    found = scores(model, images((1, 5)), sentences((1, 4)))
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_focal
def test_identical_regions_are_finite_and_score_as_one_of_them(focal: Focal) -> None:
    model = bfan(focal=focal, direction="t2i")
    one = images((1,))
    many = ImageBatch(one.regions.expand(1, 4, -1), torch.ones(1, 4).bool())
    found = scores(model, many, sentences())
    torch.testing.assert_close(found, scores(model, one, sentences()), atol=1e-6, rtol=0)


@each_focal
@each_direction
def test_inner_products_give_the_scores_of_the_equations(focal: Focal, direction: str) -> None:
    quick, slow = (bfan(focal=focal, direction=direction, plain=plain) for plain in (False, True))
    expected = scores(slow, images(), sentences())
    torch.testing.assert_close(scores(quick, images(), sentences()), expected, atol=1e-6, rtol=0)


@each_focal
def test_both_directions_add_up(focal: Focal) -> None:
    both, t2i, i2t = (
        scores(bfan(focal=focal, direction=direction), images(), sentences())
        for direction in ("both", "t2i", "i2t")
    )
    torch.testing.assert_close(both, t2i + i2t)


@each_focal
def test_scores_equal_a_loop_over_pairs_and_words(focal: Focal) -> None:
    model = bfan(focal=focal, direction="t2i")
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    found = model.score(left, right).i2t
    for i, j in ((0, 0), (1, 2), (4, 5), (3, 1)):
        v, e = left.tokens[i][left.mask[i]], right.tokens[j][right.mask[j]]
        s = v @ e.T  # (R, W)
        s = torch.where(s > 0, s, 0.1 * s)
        s = s / (s.norm(dim=1, keepdim=True) + 1e-8)  # each region over the words
        cosines = []
        for w in range(len(e)):
            a = (20 * s[:, w]).softmax(dim=0)
            g = torch.ones_like(a) if focal == "equal" else a.sqrt()
            stays = torch.stack([((a[k] - a) * g).sum() > 0 for k in range(len(a))])
            a = a * stays if bool(stays.any()) else a
            cosines.append(torch.cosine_similarity(e[w], (a / a.sum()) @ v, dim=0))
        assert found[i, j].item() == pytest.approx(torch.stack(cosines).mean().item(), abs=1e-5)


@each_direction
def test_explained_words_share_out_one(direction: str) -> None:
    model = bfan(direction=direction)
    left = model.encode_images(images((5, 3, 4)))
    right = model.encode_sentences(sentences((4, 6, 2)))
    weights = model.attend(left, right)
    assert weights.shape == (3, 6, 5)
    totals = weights.sum(dim=2)
    assert torch.all(totals[~right.mask] == 0)
    looked_at = totals[right.mask] > 0
    torch.testing.assert_close(totals[right.mask][looked_at], torch.ones(int(looked_at.sum())))
    assert bool(looked_at.all()) or direction == "i2t"
    assert torch.all(weights.transpose(1, 2)[~left.mask] == 0)


def test_the_equations_say_that_they_need_more_memory() -> None:
    quick, slow = bfan(), bfan(plain=True)
    assert slow.pair_bytes(36, 12) > 5 * quick.pair_bytes(36, 12)
    assert quick.pair_flops(36, 12) == slow.pair_flops(36, 12) == 2 * 36 * 12 * DIM


def test_as_many_parameters_as_the_original() -> None:
    with torch.device("meta"):
        model = Bfan(BfanConfig(region_dim=2048, vocab_size=8481))
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.project, model.text)]
    assert counts == [2_098_176, 10_691_244]
