"""One pass over tiles: the lists and ranks of the whole matrix, whatever the tiles are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.tiny import images, sentences, tiny_model
from tests.unit.test_scoring import Numbers
from visavis.errors import DataError
from visavis.metrics.ranks import ranks
from visavis.scoring import own
from visavis.scoring.collect import Job, TopK, Wanted, collect
from visavis.scoring.matrix import Block, score_matrix
from visavis.scoring.own import RankCounter
from visavis.scoring.sides import Groups, Held, held_sentences, read_images, read_sentences
from visavis.scoring.stream import Stream, Tile, stream
from visavis.scoring.top_k import pair_scores, top_k
from visavis.types import Encoded, Scores


class Product:
    """Inner products of first tokens; the other direction may be scored otherwise."""

    def __init__(self, *, decoupled: bool = False, off: float = 0.0) -> None:
        self.decoupled, self.off = decoupled, off
        self.pairs = 0

    def _scores(self, i2t: Tensor) -> Scores:
        return Scores(i2t, 0.5 - 2 * i2t) if self.decoupled else Scores.shared(i2t)

    def score(self, left: Encoded, right: Encoded) -> Scores:
        self.pairs += len(left) * len(right)
        return self._scores(left.tokens[:, 0] @ right.tokens[:, 0].T)

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        return self._scores((left.tokens[:, 0] * right.tokens[:, 0]).sum(dim=1) + self.off)

    encode_images = encode_sentences = None


def items(count: int, seed: int, *, levels: int = 0) -> Encoded:
    """Vectors of several lengths; with levels, of few values: most scores have equals."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 5, 3, generator=generator)
    if levels:
        tokens = (tokens * levels).round() / levels
    lengths = torch.randint(1, 6, (count,), generator=generator)
    mask = torch.arange(5)[None] < lengths[:, None]
    return Encoded(tokens * mask.unsqueeze(2), mask)


def pairs_of(count: int, many: int) -> NDArray[np.int64]:
    """Every image but the last two has sentences; sentence 0 has two images, the last none."""
    sentence = np.arange(many - 1)
    pairs = np.stack([sentence % max(1, count - 2), sentence], axis=1)
    return np.concatenate([pairs, [[1 % count, 0]], pairs[:3]])


def expected_lists(
    scores: Tensor, k: int, pairs: NDArray[np.int64] | None = None, *, turned: bool = False
) -> Tensor:
    scores = scores.clone()
    if pairs is not None:
        scores[pairs[:, 0], pairs[:, 1]] = -torch.inf
    best = (scores.T if turned else scores).sort(dim=1, descending=True, stable=True)
    ids = best.indices.masked_fill(best.values == -torch.inf, -1).int()[:, :k]
    return torch.nn.functional.pad(ids, (0, max(0, k - best.indices.shape[1])), value=-1)


BLOCKS = [
    Block(),
    Block(rows=3, memory_bytes=4000, budget_bytes=700),
    Block(rows=1, memory_bytes=1, budget_bytes=1),
    Block(rows=7, budget_bytes=90 * 12),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("without", [False, True])
def test_lists_ranks_and_pair_scores_are_those_of_the_matrix(
    block: Block, levels: int, *, decoupled: bool, without: bool
) -> None:
    left, right = items(13, 0, levels=levels), items(31, 1, levels=levels)
    pairs = pairs_of(13, 31)
    model: Any = Product(decoupled=decoupled)
    whole = score_matrix(model, left, right)
    wanted = Wanted(sentences=4, images=20, pairs=pairs, ranks=True, without_pairs=without)
    found = top_k(model, left, right, wanted, block=block)
    hidden = pairs if without else None
    assert torch.equal(found.sentences, expected_lists(whole.i2t, 4, hidden))
    assert torch.equal(found.images, expected_lists(whole.t2i, 20, hidden, turned=True))
    exact = ranks(whole, pairs)
    assert found.ranks is not None
    assert np.array_equal(found.ranks.i2t, exact.i2t)
    assert np.array_equal(found.ranks.t2i, exact.t2i)
    assert found.pairs is not None
    assert found.pair_scores is not None
    image, sentence = found.pairs.T
    torch.testing.assert_close(found.pair_scores[:, 0], whole.i2t[image, sentence])
    torch.testing.assert_close(found.pair_scores[:, 1], whole.t2i[image, sentence])
    assert found.scored == (13 * 31, 13 * 31)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(2, 30),
    st.sampled_from([1, 2, 4]),  # products of such numbers are exact: equals stay equal
    st.integers(1, 10**5),
    st.integers(1, 9),
    st.integers(0, 10**6),
)
def test_ranks_are_exact_for_any_sizes(
    count: int, many: int, levels: int, memory: int, rows: int, seed: int
) -> None:
    left, right = items(count, seed, levels=levels), items(many, seed + 1, levels=levels)
    pairs = pairs_of(count, many)
    model: Any = Product()
    wanted = Wanted(sentences=0, images=0, pairs=pairs, ranks=True)
    block = Block(rows=rows, memory_bytes=memory, budget_bytes=min(memory, 2**24))
    found = top_k(model, left, right, wanted, block=block).ranks
    exact = ranks(score_matrix(model, left, right), pairs)
    assert found is not None
    assert np.array_equal(found.i2t, exact.i2t)
    assert np.array_equal(found.t2i, exact.t2i)


@pytest.mark.parametrize("off", [0.0, 5e-5, 0.3])
def test_ranks_do_not_depend_on_how_close_the_estimates_are(off: float) -> None:
    left, right, pairs = items(13, 0), items(31, 1), pairs_of(13, 31)
    model: Any = Product(off=off)
    wanted = Wanted(sentences=0, images=0, pairs=pairs, ranks=True)
    found = top_k(model, left, right, wanted, block=Block(rows=3, budget_bytes=1000)).ranks
    exact = ranks(score_matrix(model, left, right), pairs)
    assert found is not None
    assert np.array_equal(found.i2t, exact.i2t)
    assert np.array_equal(found.t2i, exact.t2i)
    assert model.pairs == 13 * 31 * (2 if off < 0.1 else 3)  # far off, they are counted twice


def test_too_many_undecided_scores_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "WINDOW", 20)
    left, right, pairs = items(13, 0, levels=1), items(31, 1, levels=1), pairs_of(13, 31)
    model: Any = Product()
    wanted = Wanted(sentences=0, images=0, pairs=pairs, ranks=True)
    found = top_k(model, left, right, wanted, block=Block(rows=3)).ranks
    exact = ranks(score_matrix(model, left, right), pairs)
    assert found is not None
    assert np.array_equal(found.i2t, exact.i2t)
    assert np.array_equal(found.t2i, exact.t2i)


def test_what_is_far_below_is_never_kept() -> None:
    counter = RankCounter(torch.tensor([0.5, torch.inf]), 1e-4)
    counter.see(torch.arange(2), torch.tensor([[0.1, 0.9, 0.50001], [0.1, 3.0, 0.2]]))
    assert counter.values.tolist() == pytest.approx([0.50001])
    assert counter.queries.tolist() == [0]
    ranks_of, undecided = counter.decided(torch.tensor([0.50002, torch.inf]))
    assert ranks_of.tolist() == [1, -1]
    assert not undecided.any()


def permuted(found: TopK, rows: Tensor, columns: Tensor) -> TopK:
    """The answers to permuted items, as the items were numbered before."""
    back_rows, back_columns = rows.argsort(), columns.argsort()

    def renamed(ids: Tensor, names: Tensor) -> Tensor:
        return torch.where(ids < 0, ids.long(), names[ids.long().clamp_min(0)])

    return TopK(
        sentences=renamed(found.sentences, columns)[back_rows],
        sentence_scores=found.sentence_scores[back_rows],
        images=renamed(found.images, rows)[back_columns],
        image_scores=found.image_scores[back_columns],
        pairs=None,
        pair_scores=None,
        ranks=None,
        scored=found.scored,
    )


@pytest.mark.parametrize("variant", ["saem", "scan-t2i", "scan-i2t", "dcpa", "mmca"])
def test_order_threads_and_budgets_change_nothing_but_the_last_bits(variant: str) -> None:
    model: Any = tiny_model(variant)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        left = model.encode_images(images(tuple(range(1, 6)) * 2, seed=4))
        right = model.encode_sentences(sentences(tuple(range(1, 8)) * 3, seed=5))
    usual = top_k(model, left, right, Wanted(sentences=6, images=6))
    rows = torch.randperm(len(left), generator=generator)
    columns = torch.randperm(len(right), generator=generator)
    others = [
        top_k(model, left, right, Wanted(sentences=6, images=6), block=block)
        for block in (BLOCKS[1], BLOCKS[3])
    ]
    again = top_k(model, left.select(rows), right.select(columns), Wanted(sentences=6, images=6))
    others.append(permuted(again, rows, columns))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        others.append(top_k(model, left, right, Wanted(sentences=6, images=6)))
    finally:
        torch.set_num_threads(threads)
    for other in others:
        for name in ("sentence_scores", "image_scores"):
            torch.testing.assert_close(
                getattr(other, name), getattr(usual, name), atol=1e-6, rtol=1e-6
            )
        assert torch.equal(other.sentences.long(), usual.sentences.long())
        assert torch.equal(other.images.long(), usual.images.long())


def test_the_same_call_twice_gives_the_same_bits() -> None:
    model: Any = tiny_model("scan-t2i")
    with torch.inference_mode():
        left, right = model.encode_images(images()), model.encode_sentences(sentences())
    first, second = (top_k(model, left, right) for _ in range(2))
    assert torch.equal(first.sentence_scores, second.sentence_scores)
    assert torch.equal(first.image_scores, second.image_scores)


@pytest.mark.parametrize("block", BLOCKS)
def test_tiles_cover_every_pair_once_within_the_memory(block: Block) -> None:
    left, right = items(13, 0), items(31, 1)
    model: Any = Product()
    whole = score_matrix(model, left, right).i2t
    seen = torch.zeros(13, 31, dtype=torch.int32)
    for tile in stream(model, left, right, block=block):
        seen[tile.rows[:, None], tile.columns] += 1
        assert tile.scores.i2t.dtype == torch.float32
        torch.testing.assert_close(tile.scores.i2t, whole[tile.rows[:, None], tile.columns])
        assert tile.scores.i2t.numel() * 12 <= max(12, block.memory_bytes // 4)
    assert (seen == 1).all()


@pytest.mark.parametrize("memory", [2**28, 3000])
def test_sides_that_encode_when_needed_give_what_held_ones_give(memory: int) -> None:
    model: Any = tiny_model("scan-t2i")
    pictures, texts = images((5, 3, 5, 1, 4, 5) * 3), sentences((4, 1, 6, 3, 2, 6, 5) * 4)
    pairs = pairs_of(len(pictures), len(texts))
    with torch.inference_mode():
        left, right = model.encode_images(pictures), model.encode_sentences(texts)
    wanted = Wanted(sentences=5, images=5, pairs=pairs, ranks=True)
    usual = top_k(model, left, right, wanted)
    assert usual.ranks is not None
    lists = Numbers(texts)
    read = read_images(model, lambda rows: pictures.select(torch.from_numpy(rows)), len(pictures))
    for sides in (
        (read, read_sentences(model, lists)),
        (left, held_sentences(model, lists)),
        (read, right),
    ):
        found = top_k(model, *sides, wanted, block=Block(memory_bytes=memory))
        assert torch.equal(found.sentences, usual.sentences)
        assert torch.equal(found.images, usual.images)
        torch.testing.assert_close(found.sentence_scores, usual.sentence_scores)
        assert found.ranks is not None
        assert np.array_equal(found.ranks.i2t, usual.ranks.i2t)
        assert np.array_equal(found.ranks.t2i, usual.ranks.t2i)


def test_sentences_are_encoded_once_for_each_wide_row_of_tiles() -> None:
    model: Any = tiny_model("saem")
    texts, pictures = sentences((3,) * 40), images((4,) * 30)
    read = []
    lists = Numbers(texts)
    side = read_sentences(model, lists)
    encode = side.encode

    def counted(rows: NDArray[np.int64]) -> Encoded:
        read.append(len(rows))
        return encode(rows)

    side.encode = counted
    with torch.inference_mode():
        left = model.encode_images(pictures)
    top_k(model, left, side, Wanted(), block=Block(rows=2))
    assert sum(read) == 40 + 1  # and one to see how large it is


def test_groups_find_their_items_across_borders() -> None:
    whole = items(10, 3)
    order = np.array([4, 2, 0, 9, 8, 7, 1, 3, 6, 5])
    ordered = whole.select(torch.from_numpy(order))
    groups = Groups([ordered.select(slice(0, 4)), ordered.select(slice(4, 10))], order)
    for places in (slice(0, 4), slice(2, 9), slice(5, 6)):
        expected = whole.select(torch.from_numpy(order[places])).trimmed()
        assert torch.equal(groups.at(places).tokens, expected.tokens)
    wanted = np.array([5, 4, 4, 1])
    assert torch.equal(
        groups.pick(wanted).mask, whole.select(torch.from_numpy(wanted)).trimmed().mask
    )


def test_scores_of_pairs_are_entries_of_the_matrix() -> None:
    left, right, pairs = items(13, 0), items(31, 1), pairs_of(13, 31)
    model: Any = Product(decoupled=True)
    whole = score_matrix(model, left, right)
    found = pair_scores(model, Held(left), Held(right), pairs, Block(memory_bytes=2000))
    torch.testing.assert_close(found.i2t, whole.i2t[pairs[:, 0], pairs[:, 1]])
    torch.testing.assert_close(found.t2i, whole.t2i[pairs[:, 0], pairs[:, 1]])


@pytest.mark.parametrize(("count", "many"), [(0, 4), (4, 0), (0, 0)])
def test_of_nothing_the_lists_are_empty(count: int, many: int) -> None:
    model: Any = Product()
    left, right = items(max(count, 1), 0), items(max(many, 1), 1)
    found = top_k(model, left.select(slice(0, count)), right.select(slice(0, many)))
    assert found.sentences.tolist() == [[-1] * 10] * count
    assert found.images.tolist() == [[-1] * 10] * many


def test_nan_is_an_error() -> None:
    left, right = items(4, 0), items(5, 1)
    left.tokens[2, 0, 0] = torch.nan
    model: Any = Product()
    with pytest.raises(DataError, match="hold NaN or infinity"):
        top_k(model, left, right)


def test_pairs_outside_of_the_matrix_are_an_error() -> None:
    model: Any = Product()
    wanted = Wanted(pairs=np.array([[0, 5]]))
    with pytest.raises(DataError, match="sentence 5 of 4 and 5"):
        top_k(model, items(4, 0), items(5, 1), wanted)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"sentences": -1}, "at least 0"), ({"ranks": True}, "need pairs")],
)
def test_what_cannot_be_wanted_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wanted(**values)


def test_progress_tells_images_that_met_every_sentence() -> None:
    told: list[tuple[int, int]] = []
    model: Any = Product()
    job = Job(progress=lambda done, total: told.append((done, total)))
    block = Block(rows=5, budget_bytes=12 * 5 * 20)
    top_k(model, items(13, 0), items(31, 1), Wanted(), block=block, job=job)
    assert told == [(5, 13), (10, 13), (13, 13)]


def test_any_tiles_can_be_collected() -> None:
    class Two:
        """Two tiles of a 2 x 3 matrix of which one pair is out of the question."""

        shape, count, grid = (2, 3), 2, {}

        def start(self, first: int) -> Iterator[Tile]:
            none = -torch.inf
            parts = [([0], [2, 0], [[0.3, none]]), ([1], [1], [[0.7]])]
            for rows, columns, scores in parts[first:]:
                found = Scores.shared(torch.tensor(scores))
                yield Tile(torch.tensor(rows), torch.tensor(columns), found, last=True)

    found = collect(Two(), Wanted(sentences=2, images=1))
    assert found.sentences.tolist() == [[2, -1], [1, -1]]
    assert found.images.tolist() == [[-1], [1], [0]]


def test_a_stream_can_begin_at_any_tile() -> None:
    model: Any = Product()
    tiles = Stream(model, items(13, 0), items(31, 1), Block(rows=4, budget_bytes=12 * 4 * 10))
    assert tiles.count == 4 * 4
    every = [tile.columns.tolist() for tile in tiles.start(0)]
    assert [tile.columns.tolist() for tile in tiles.start(6)] == every[6:]
