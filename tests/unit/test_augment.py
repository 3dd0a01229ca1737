"""Leaving out regions and words."""

from __future__ import annotations

import torch

from tests.tiny import images, sentences
from visavis.training.augment import drop_regions, drop_words
from visavis.types import SentenceBatch


def test_nothing_is_left_out_at_zero() -> None:
    left, right = images(), sentences()
    assert drop_regions(left, 0.0) is left
    assert drop_words(right, 0.0) is right


def test_about_the_share_of_regions_is_left_out() -> None:
    torch.manual_seed(0)
    batch = images(tuple([40] * 200))
    kept = drop_regions(batch, 0.25).mask.float().mean().item()
    assert abs(kept - 0.75) < 0.02


def test_every_image_keeps_a_region() -> None:
    torch.manual_seed(0)
    assert drop_regions(images(tuple([1, 2] * 50)), 0.9).mask.any(dim=1).all()


def test_words_close_up_in_order_and_ends_stay() -> None:
    torch.manual_seed(0)
    batch = sentences((9, 1, 2, 7, 9))
    dropped = drop_words(batch, 0.5)
    assert dropped.mask.sum() < batch.mask.sum()
    for row in range(5):
        before = batch.ids[row][batch.mask[row]].tolist()
        after = dropped.ids[row][dropped.mask[row]].tolist()
        assert (after[0], after[-1]) == (before[0], before[-1])
        rest = iter(before)
        assert all(token in rest for token in after)  # a subsequence
        length = int(dropped.mask[row].sum())
        assert dropped.mask[row, :length].all()  # no gaps


def test_states_move_with_their_words() -> None:
    torch.manual_seed(0)
    plain = sentences((6, 4))
    states = plain.ids[:, :, None].float().expand(-1, -1, 3) * plain.mask[:, :, None]
    dropped = drop_words(SentenceBatch(plain.ids, plain.mask, states), 0.4)
    assert dropped.states is not None
    assert torch.equal(dropped.states[:, :, 0], dropped.ids.float())
