from __future__ import annotations

import pytest
import torch

from visavis.errors import DataError
from visavis.layers.bert import FrozenStates
from visavis.types import SentenceBatch


def batch(lengths: list[int], width: int, *, dim: int = 6) -> SentenceBatch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    states = torch.randn(len(lengths), max(lengths), dim, generator=generator)
    extra = width - max(lengths)
    return SentenceBatch(
        torch.zeros(len(lengths), width, dtype=torch.int64),
        torch.nn.functional.pad(mask, (0, extra)),
        torch.nn.functional.pad(states, (0, 0, 0, extra), value=7.0),
    )


def test_words_are_the_linear_map_of_the_states() -> None:
    layer = FrozenStates(6, 4)
    sentences = batch([3, 3], 3)
    assert sentences.states is not None
    wanted = sentences.states @ layer.linear.weight.T + layer.linear.bias
    torch.testing.assert_close(layer(sentences), wanted)


@pytest.mark.parametrize("normalise", [False, True])
def test_padding_is_zero_and_does_not_matter(normalise: bool) -> None:
    layer = FrozenStates(6, 4, normalise=normalise)
    narrow, wide = layer(batch([3, 1], 3)), layer(batch([3, 1], 5))
    assert torch.equal(wide[:, :3], narrow)
    assert not wide[:, 3:].any()
    assert not narrow[1, 1:].any()


def test_normalised_words_have_length_one() -> None:
    words = FrozenStates(6, 4, normalise=True)(batch([2, 2], 2))
    torch.testing.assert_close(words.norm(dim=2), torch.ones(2, 2))


def test_half_precision_states_are_read() -> None:
    sentences = batch([2], 2)
    assert sentences.states is not None
    half = SentenceBatch(sentences.ids, sentences.mask, sentences.states.half())
    layer = FrozenStates(6, 4)
    torch.testing.assert_close(layer(half), layer(sentences), atol=5e-3, rtol=5e-3)


def test_a_batch_without_states_is_refused() -> None:
    with pytest.raises(DataError, match="width 6, the sentences have none"):
        FrozenStates(6, 4)(SentenceBatch(torch.zeros(1, 2).long(), torch.ones(1, 2).bool()))


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="width 8, the sentences have width 6"):
        FrozenStates(8, 4)(batch([2], 2))
