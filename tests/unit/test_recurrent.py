"""The GRU's own backward pass against the library's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from visavis.layers.recurrent import recurrent_states

LENGTHS = (3, 7, 1, 7, 4, 2)


def drawn(*, bidirectional: bool, bias: bool = True) -> tuple[nn.GRU, Tensor, Tensor]:
    torch.manual_seed(0)
    rnn = nn.GRU(5, 6, batch_first=True, bidirectional=bidirectional, bias=bias)
    mask = torch.arange(9) < torch.tensor(LENGTHS)[:, None]  # two places that nobody fills
    return rnn, torch.randn(len(LENGTHS), 9, 5), mask


def of_the_library(rnn: nn.GRU, words: Tensor, mask: Tensor) -> Tensor:
    packed = pack_padded_sequence(words, mask.sum(1), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=mask.shape[1])[0]


def gradients(found: Tensor, weights: Tensor, rnn: nn.GRU, words: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((found * weights).sum(), [words, *rnn.parameters()]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_and_gradients_are_the_librarys(bidirectional: bool, bias: bool) -> None:
    rnn, words, mask = drawn(bidirectional=bidirectional, bias=bias)
    words.requires_grad_()
    found, expected = recurrent_states(rnn, words, mask), of_the_library(rnn, words, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    weights = torch.randn_like(expected)
    pairs = zip(
        gradients(found, weights, rnn, words),
        gradients(expected, weights, rnn, words),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_mean_of_both_directions_is_that_of_their_states() -> None:
    rnn, words, mask = drawn(bidirectional=True)
    words.requires_grad_()
    weights = torch.randn(len(LENGTHS), 9, 6)

    def mean_of(states: Tensor) -> Tensor:
        return (states[:, :, :6] + states[:, :, 6:]) / 2

    found = recurrent_states(rnn, words, mask, averaged=True)
    sides = recurrent_states(rnn, words, mask)
    assert torch.equal(found, mean_of(sides))
    pairs = zip(
        gradients(found, weights, rnn, words),
        gradients(mean_of(sides), weights, rnn, words),
        strict=True,
    )
    assert all(torch.equal(one, other) for one, other in pairs)
    with torch.inference_mode():
        alone = recurrent_states(rnn, words, mask, averaged=True)
        assert torch.equal(alone, mean_of(of_the_library(rnn, words, mask)))


@pytest.mark.parametrize("active", [[0], [1, 4], [2], []])
def test_sentences_without_gradients_change_nothing_when_left_out(active: list[int]) -> None:
    rnn, words, mask = drawn(bidirectional=True)
    words.requires_grad_()
    weights = torch.zeros(len(LENGTHS), 9, 12)
    weights[active] = torch.randn(len(active), 9, 12)
    found = gradients(recurrent_states(rnn, words, mask), weights, rnn, words)
    expected = gradients(of_the_library(rnn, words, mask), weights, rnn, words)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_sentences_without_gradients_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, words, mask = drawn(bidirectional=False)
    words.requires_grad_()
    states = recurrent_states(rnn, words, mask)
    seen: list[int] = []
    product = torch.addmm

    def counted(*given: Tensor) -> Tensor:
        seen.append(len(given[1]))
        return product(*given)

    monkeypatch.setattr(torch, "addmm", counted)
    states[1].sum().backward()  # seven words of one sentence
    assert seen == [1] * 7


def test_gradients_of_one_word_and_a_long_sentence_agree_with_differences() -> None:
    rnn, words, mask = drawn(bidirectional=True)
    words.requires_grad_()
    weights = torch.randn(len(LENGTHS), 9, 12)
    slope = gradients(recurrent_states(rnn, words, mask), weights, rnn, words)[0]
    exact, given = rnn.double(), words.detach().double()
    for sentence, place in ((2, 0), (1, 6), (3, 0)):
        step = torch.zeros_like(given)
        step[sentence, place, 2] = 1e-6
        with torch.inference_mode():
            near = [
                float((of_the_library(exact, given + sign * step, mask) * weights).sum())
                for sign in (1, -1)
            ]
        assert float(slope[sentence, place, 2]) == pytest.approx(
            (near[0] - near[1]) / 2e-6, rel=1e-3
        )


def test_double_precision_and_evaluation_take_the_library() -> None:
    rnn, words, mask = drawn(bidirectional=True)
    with torch.inference_mode():
        assert torch.equal(recurrent_states(rnn, words, mask), of_the_library(rnn, words, mask))
    words, rnn = words.double(), rnn.double()
    assert torch.equal(recurrent_states(rnn, words, mask), of_the_library(rnn, words, mask))
