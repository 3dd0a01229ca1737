"""The value types: slicing, joining and trimming keep what belongs to each item."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


def encoded(count: int, length: int, seed: int = 0) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (count,), generator=generator)
    lengths[:1] = length
    mask = torch.arange(length)[None] < lengths[:, None]
    tokens = torch.randn(count, length, 4, generator=generator) * mask.unsqueeze(2)
    pooled = torch.randn(count, 5, generator=generator)
    return Encoded(tokens, mask, pooled, {"gram": tokens @ tokens.transpose(1, 2)})


def assert_equal(found: Encoded, expected: Encoded) -> None:
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.mask, expected.mask)
    assert found.pooled is not None
    assert expected.pooled is not None
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.extra["gram"], expected.extra["gram"])


def test_select_takes_the_same_items_of_every_tensor() -> None:
    items = encoded(5, 3)
    for chosen in (torch.tensor([3, 0, 3]), slice(1, 4), torch.tensor([1, 0, 0, 1, 1]).bool()):
        found = items.select(chosen)
        assert torch.equal(found.tokens, items.tokens[chosen])
        assert torch.equal(found.mask, items.mask[chosen])
        assert found.pooled is not None
        assert items.pooled is not None
        assert torch.equal(found.pooled, items.pooled[chosen])
        assert torch.equal(found.extra["gram"], items.extra["gram"][chosen])
        assert len(found) == len(items.mask[chosen])


def test_what_is_not_there_stays_away() -> None:
    images = ImageBatch(torch.zeros(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))
    sentences = SentenceBatch(torch.zeros(3, 2, dtype=torch.int64), images.mask)
    assert images.select(slice(0, 2)).boxes is None
    assert sentences.to("cpu").states is None


def test_value_types_cannot_be_changed() -> None:
    scores = Scores.shared(torch.zeros(2, 3))
    with pytest.raises(FrozenInstanceError):
        scores.i2t = torch.ones(2, 3)  # type: ignore[misc]


def test_shared_scores_stay_one_tensor_when_sliced_and_moved() -> None:
    scores = Scores.shared(torch.arange(6.0).view(2, 3))
    assert not scores.select(slice(0, 1)).decoupled
    assert not scores.select(torch.tensor([1])).decoupled
    assert not scores.to("cpu").decoupled
    assert not scores.to("meta").decoupled


def test_decoupled_scores_stay_two_tensors() -> None:
    scores = Scores(torch.zeros(2, 3), torch.ones(2, 3))
    part = scores.select(slice(1, 2))
    assert part.decoupled
    assert torch.equal(part.i2t, torch.zeros(1, 3))
    assert torch.equal(part.t2i, torch.ones(1, 3))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_joined_parts_can_be_taken_apart_again(sizes: list[tuple[int, int]]) -> None:
    parts = [encoded(count, length, seed) for seed, (count, length) in enumerate(sizes)]
    whole = Encoded.join(parts)
    assert len(whole) == sum(count for count, _ in sizes)
    start = 0
    for part in parts:
        back = whole.select(slice(start, start + len(part)))
        length = part.mask.shape[1]
        assert torch.equal(back.tokens[:, :length], part.tokens)
        assert not back.tokens[:, length:].any()
        assert torch.equal(back.mask[:, :length], part.mask)
        assert not back.mask[:, length:].any()
        assert torch.equal(back.extra["gram"][:, :length, :length], part.extra["gram"])
        start += len(part)


def test_parts_with_and_without_pooled_vectors_cannot_be_joined() -> None:
    first = encoded(2, 3)
    second = Encoded(first.tokens, first.mask, None, first.extra)
    with pytest.raises(ValueError, match="pooled"):
        Encoded.join([first, second])


def test_trimming_drops_columns_that_are_padding_for_all() -> None:
    mask = torch.tensor([[True, False, False, False], [True, True, False, False]])
    tokens = torch.randn(2, 4, 3)
    trimmed = Encoded(tokens, mask).trimmed()
    assert torch.equal(trimmed.tokens, tokens[:, :2])
    assert torch.equal(trimmed.mask, mask[:, :2])


def test_trimming_never_drops_a_real_token() -> None:
    mask = torch.tensor([[False, False, True, False], [True, False, False, False]])
    trimmed = Encoded(torch.randn(2, 4, 3), mask).trimmed()
    assert torch.equal(trimmed.mask, mask[:, :3])


def test_trimming_leaves_one_column_when_nothing_is_real() -> None:
    assert Encoded(torch.zeros(2, 4, 3), torch.zeros(2, 4).bool()).trimmed().mask.shape == (2, 1)
    assert Encoded(torch.zeros(0, 4, 3), torch.zeros(0, 4).bool()).trimmed().mask.shape == (0, 1)


def test_join_of_one_part_is_that_part() -> None:
    items = encoded(4, 3)
    assert_equal(Encoded.join([items]), items)
