"""Filters over one, two and three words, against a literal loop over words and windows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visavis.layers.phrase_cnn import PhraseCnn, Positions

WORD_DIM, FILTERS, DIM = 5, 4, 6
both = pytest.mark.parametrize("positions", ["words", "all"])


def layer_of(positions: Positions = "words", *, layer_norm: bool = False) -> PhraseCnn:
    torch.manual_seed(0)
    layer = PhraseCnn(WORD_DIM, FILTERS, DIM, layer_norm=layer_norm, positions=positions)
    return layer.eval()


def batch(lengths: list[int], width: int, *, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    words = torch.full((len(lengths), width, WORD_DIM), padding)
    for row, length in enumerate(lengths):
        words[row, :length] = torch.randn(length, WORD_DIM, generator=generator)
    return words, torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def windows(words: Tensor, length: int, size: int, positions: Positions) -> list[Tensor]:
    """The words below each window of some size, for one sentence of a padded width."""
    if positions == "all":
        if len(words) >= size:
            return [words[start : start + size] for start in range(len(words) - size + 1)]
        length = len(words)
    followed = torch.cat([words[:length], torch.zeros(size - 1, WORD_DIM)])
    return [followed[start : start + size] for start in range(length)]


def slow(layer: PhraseCnn, words: Tensor, mask: Tensor) -> Tensor:
    """q_l = max_k ReLU(W_l e_{k:k+l-1} + b_l), joined, mapped, of unit length."""
    vectors = []
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        found = []
        for size, convolution in enumerate(layer.convolutions, start=1):
            assert isinstance(convolution, nn.Conv1d)
            assert convolution.bias is not None
            for weight, bias in zip(convolution.weight, convolution.bias, strict=True):
                answers = [
                    max(0.0, float((weight.T * window).sum() + bias))
                    for window in windows(words[row], int(length), size, layer.positions)
                ]
                found.append(max(answers))
        vector = layer.linear(torch.tensor(found))
        if layer.norm is not None:
            vector = layer.norm(vector)
        vectors.append(vector / vector.norm())
    return torch.stack(vectors)


@both
@pytest.mark.parametrize("layer_norm", [False, True])
@torch.no_grad()
def test_it_equals_a_loop_over_words_and_windows(positions: Positions, layer_norm: bool) -> None:
    layer = layer_of(positions, layer_norm=layer_norm)
    words, mask = batch([6, 1, 2, 3, 5], 6)
    torch.testing.assert_close(layer(words, mask), slow(layer, words, mask))


@both
@pytest.mark.parametrize("width", [1, 2])
@torch.no_grad()
def test_sentences_shorter_than_a_window_work(positions: Positions, width: int) -> None:
    layer = layer_of(positions)
    words, mask = batch([width, 1], width)
    torch.testing.assert_close(layer(words, mask), slow(layer, words, mask))


@both
@torch.no_grad()
def test_vectors_have_length_one(positions: Positions) -> None:
    words, mask = batch([4, 2, 1], 4)
    torch.testing.assert_close(layer_of(positions)(words, mask).norm(dim=1), torch.ones(3))


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    extra=st.integers(1, 4),
    padding=st.sampled_from([0.0, 7.0, -7.0]),
)
@torch.no_grad()
def test_padding_does_not_matter(lengths: list[int], extra: int, padding: float) -> None:
    layer = layer_of("words")
    narrow = layer(*batch(lengths, max(lengths)))
    wide = layer(*batch(lengths, max(lengths) + extra, padding=padding))
    torch.testing.assert_close(wide, narrow)


@torch.no_grad()
def test_with_all_positions_padding_takes_part() -> None:
    layer = layer_of("all")
    narrow, wide = layer(*batch([3], 3)), layer(*batch([3], 6))
    assert (narrow - wide).abs().max() > 1e-3


@torch.no_grad()
def test_a_filter_that_only_padding_would_answer_stays_silent() -> None:
    layer = layer_of("words")
    for convolution in layer.convolutions:
        assert isinstance(convolution, nn.Conv1d)
        assert convolution.bias is not None
        convolution.weight.fill_(-1.0)  # positive words lower every answer, padding does not
        convolution.bias.fill_(0.5)
    words, mask = torch.ones(1, 4, WORD_DIM), torch.tensor([[True, True, False, False]])
    silent = layer.linear(torch.zeros(3 * FILTERS))
    torch.testing.assert_close(layer(words, mask)[0], silent / silent.norm())


@torch.no_grad()
def test_order_of_words_matters_to_phrases() -> None:
    layer = layer_of()
    words, mask = batch([4], 4)
    assert (layer(words, mask) - layer(words.flip(1), mask)).abs().max() > 1e-3


def test_dropout_acts_in_training_only() -> None:
    layer = PhraseCnn(WORD_DIM, FILTERS, DIM, dropout=0.5)
    words, mask = batch([4, 3], 4)
    layer.train()
    assert not torch.equal(layer(words, mask), layer(words, mask))
    layer.eval()
    assert torch.equal(layer(words, mask), layer(words, mask))


@both
def test_gradients_do_not_reach_padding_and_are_finite(positions: Positions) -> None:
    layer = layer_of(positions)
    words, mask = batch([4, 1], 4)
    words.requires_grad_()
    layer(words, mask).square().mul(torch.arange(DIM)).sum().backward()
    assert words.grad is not None
    assert torch.isfinite(words.grad).all()
    assert words.grad[mask].any()
    if positions == "words":
        assert not words.grad[~mask].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_under_autocast_it_gives_float32_near_the_exact_vectors(dtype: torch.dtype) -> None:
    layer = layer_of(layer_norm=True)
    words, mask = batch([6, 1, 2, 3, 5], 6)
    with torch.autocast("cpu", dtype):
        found = layer(words, mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(words, mask), atol=0.02, rtol=0)
