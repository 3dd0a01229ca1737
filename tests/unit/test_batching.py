"""Training pairs: every pair once an epoch, in an order that seed and epoch decide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_corpus import tiny_material, tiny_source, tiny_tokenizer
from visavis.data.batching import PairSource
from visavis.data.corpus import Corpus
from visavis.data.texts import TokenTexts

MATERIAL = tiny_material(images=8, each=3)


def many_to_many(pairs: list[tuple[int, int]], images: int, sentences: int) -> PairSource:
    """A corpus with any ground truth over the tiny images."""
    truth = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    corpus = Corpus(
        name="many",
        image_ids=MATERIAL.corpus.image_ids[:images],
        image_splits=("train",) * images,
        sentence_ids=MATERIAL.corpus.sentence_ids[:sentences],
        sentence_texts=MATERIAL.corpus.sentence_texts[:sentences],
        pairs=truth,
        rows=np.arange(images),
    )
    texts = TokenTexts(corpus.sentence_texts, tiny_tokenizer(MATERIAL.corpus))
    return PairSource(corpus, MATERIAL.features, texts)


def test_an_epoch_holds_every_pair_once() -> None:
    source = tiny_source(MATERIAL)
    assert len(source) == 24
    assert sorted(source.order(3, 5).tolist()) == list(range(24))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    first, again = tiny_source(MATERIAL), tiny_source(MATERIAL)
    torch.rand(7)  # whatever else is drawn
    for seed in (0, 1):
        for epoch in (0, 1, 2):
            assert torch.equal(first.order(seed, epoch), again.order(seed, epoch))
    orders = {tuple(first.order(seed, epoch).tolist()) for seed in range(3) for epoch in range(4)}
    assert len(orders) == 12


def test_drawing_an_order_leaves_other_randomness_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tiny_source(MATERIAL).order(0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_a_batch_holds_the_images_and_sentences_of_its_pairs() -> None:
    source = tiny_source(MATERIAL)
    images, sentences, positives = source.read([10, 0, 23])
    # Pair p is sentence p of image p // 3.
    regions = MATERIAL.features.read(np.array([3, 0, 7])).regions
    assert torch.equal(images.regions, regions)
    tokenizer = tiny_tokenizer(source.corpus)
    texts = [source.corpus.sentence_texts[number] for number in (10, 0, 23)]
    assert torch.equal(sentences.ids, tokenizer.encode(texts).ids)
    assert torch.equal(positives, torch.eye(3, dtype=torch.bool))


def test_rows_of_the_features_are_those_of_the_corpus() -> None:
    corpus = MATERIAL.corpus.split("train")
    moved = dataclasses.replace(corpus, rows=np.arange(8)[::-1].copy())
    texts = TokenTexts(corpus.sentence_texts, tiny_tokenizer(corpus))
    images, _, _ = PairSource(moved, MATERIAL.features, texts).read([0])
    assert torch.equal(images.regions, MATERIAL.features.read(np.array([7])).regions)


def test_sentences_of_one_image_are_positives_of_its_every_row() -> None:
    _, _, positives = tiny_source(MATERIAL).read([0, 2, 3])
    assert positives.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=2, max_size=12, unique=True),
    st.data(),
)
def test_positives_equal_the_ground_truth_entry_by_entry(
    truth: list[tuple[int, int]], data: st.DataObject
) -> None:
    source = many_to_many(truth, 5, 6)
    chosen = data.draw(st.lists(st.integers(0, len(truth) - 1), min_size=1, max_size=6))
    _, _, positives = source.read(chosen)
    for row, left in enumerate(chosen):
        for column, right in enumerate(chosen):
            expected = (truth[left][0], truth[right][1]) in truth
            assert bool(positives[row, column]) == expected


def test_a_sentence_of_two_images_is_a_positive_of_both() -> None:
    source = many_to_many([(0, 0), (1, 0), (1, 1)], 2, 2)
    _, _, positives = source.read([0, 2])
    assert positives.tolist() == [[True, False], [True, True]]


def test_a_corpus_that_is_not_linked_is_refused() -> None:
    corpus = dataclasses.replace(MATERIAL.corpus, rows=None)
    texts = TokenTexts(corpus.sentence_texts, tiny_tokenizer(corpus))
    with pytest.raises(ValueError, match="not linked"):
        PairSource(corpus, MATERIAL.features, texts)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 23)), min_size=1, max_size=24, unique=True
    ),
    st.integers(2, 4),
)
def test_in_groups_an_epoch_holds_every_pair_once(truth: list[tuple[int, int]], size: int) -> None:
    source = many_to_many(truth, 8, 24).grouped(size)
    assert sorted(source.order(1, 2).tolist()) == list(range(len(truth)))


def test_groups_are_of_one_image_and_stand_where_batches_begin() -> None:
    source = tiny_source(MATERIAL).grouped(2)  # 8 images with 3 sentences each
    for epoch in range(3):
        images = source.corpus.pairs[source.order(0, epoch).numpy(), 0].reshape(-1, 2)
        assert (images[:, 0] == images[:, 1]).sum() == 8  # the other 8 pairs are left over
        assert len(images) == 12
    batch = source.order(0, 0)[:8].tolist()
    _, _, positives = source.read(batch)
    assert positives.sum() > len(batch)


def test_groups_change_from_epoch_to_epoch_and_follow_from_the_seed() -> None:
    source, again = tiny_source(MATERIAL).grouped(2), tiny_source(MATERIAL).grouped(2)
    assert torch.equal(source.order(0, 1), again.order(0, 1))
    assert not torch.equal(source.order(0, 1), source.order(0, 2))
    met = {
        tuple(sorted(pair))
        for epoch in range(40)
        for pair in source.order(0, epoch).view(-1, 2).tolist()
        if pair[0] // 3 == pair[1] // 3
    }
    assert len(met) == 24  # every two of the three sentences of every image


def test_groups_of_one_are_the_order_of_before() -> None:
    source = tiny_source(MATERIAL)
    assert torch.equal(source.grouped(1).order(3, 4), source.order(3, 4))
    assert torch.equal(source.grouped(2).grouped(1).order(3, 4), source.order(3, 4))
