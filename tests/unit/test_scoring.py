"""The scoring engine: where matrices are kept, how blocks are cut, what leaves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.tiny import DIM, images, sentences, tiny_model
from tests.unit.test_files import files_up_to
from visavis.data.sentences import pad
from visavis.errors import StorageError
from visavis.kernels.choose import EAGER, using
from visavis.models.scan import Scan
from visavis.scoring import matrix
from visavis.scoring.budget import CostedPairs, bytes_of_pair, stripe_rows, used_lengths
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.scoring.matrix import Block, score_matrix, score_pairs, score_stripe
from visavis.types import Encoded, Matcher, Scores, SentenceBatch


class Product:
    """Scores are inner products of the first tokens; told apart by direction if asked for."""

    def __init__(self, *, decoupled: bool = False) -> None:
        self.decoupled = decoupled
        self.seen: list[tuple[int, int, int, int]] = []

    def score(self, left: Encoded, right: Encoded) -> Scores:
        self.seen.append((*left.mask.shape, *right.mask.shape))
        scores = left.tokens[:, 0] @ right.tokens[:, 0].T
        return Scores(scores, scores + 100) if self.decoupled else Scores.shared(scores)

    def score_pairs(self, left: Encoded, right: Encoded) -> Scores:
        self.seen.append((*left.mask.shape, *right.mask.shape))
        scores = (left.tokens[:, 0] * right.tokens[:, 0]).sum(dim=1)
        return Scores(scores, scores + 100) if self.decoupled else Scores.shared(scores)


class Costed(Product):
    """A pair costs 40 bytes for each of its tokens."""

    def pair_bytes(self, regions: int, words: int) -> int:
        return (regions + words) * 40


class Numbers:
    """The sentences of a batch, to be read one by one."""

    def __init__(self, batch: SentenceBatch) -> None:
        self.lists = [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        self.lengths = np.array([len(numbers) for numbers in self.lists])

    def __len__(self) -> int:
        return len(self.lists)

    def read(self, rows: NDArray[np.int64]) -> SentenceBatch:
        return pad([self.lists[row] for row in rows])


def items(lengths: list[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> Encoded:
    longest = max(lengths, default=1)
    mask = torch.arange(longest)[None] < torch.tensor(lengths, dtype=torch.int64).view(-1, 1)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(lengths), longest, 4, generator=generator) * mask.unsqueeze(2)
    return Encoded(tokens.to(dtype), mask)


def matcher(model: Product) -> Matcher:
    return cast("Matcher", model)


def product(left: Encoded, right: Encoded) -> Tensor:
    return left.tokens[:, 0] @ right.tokens[:, 0].T


LEFT, RIGHT = items([3, 1, 2, 3, 3]), items([2, 7, 1, 4, 4, 6], seed=1)


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_matrix_kept_in_a_file_equals_the_one_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoupled: bool
) -> None:
    model = matcher(Product(decoupled=decoupled))
    block = Block(rows=2, budget_bytes=144)
    memory = score_matrix(model, LEFT, RIGHT, block=block, folder=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    monkeypatch.setattr(matrix, "RAM_BYTES", 0)
    file = score_matrix(model, LEFT, RIGHT, block=block, folder=tmp_path / "scratch")
    assert (tmp_path / "scratch").exists()
    assert torch.equal(file.i2t, memory.i2t)
    assert torch.equal(file.t2i, memory.t2i)
    assert file.decoupled == memory.decoupled == decoupled


def test_a_matrix_in_a_file_is_not_changed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RAM_BYTES", 0)
    model = matcher(Product())
    first = score_matrix(model, LEFT, RIGHT, folder=tmp_path)
    copy = first.i2t.clone()
    second = score_matrix(model, LEFT.select(slice(0, 2)), RIGHT, folder=tmp_path)
    assert torch.equal(first.i2t, copy)
    assert torch.equal(second.i2t, copy[:2])


def test_a_full_disk_is_noticed_before_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RAM_BYTES", 0)
    left, right = items([1] * 100), items([1] * 100)
    with files_up_to(20_000), pytest.raises(StorageError) as caught:
        score_matrix(matcher(Product()), left, right, folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_space_of_a_file_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RAM_BYTES", 0)
    found = matrix._allocate((500, 500), tmp_path, "i2t")
    status = (tmp_path / "scores_i2t.npy").stat()
    assert found.shape == (500, 500)
    assert status.st_blocks * 512 >= 500 * 500 * 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.integers(1, 4000),
    st.integers(1, 4),
    st.booleans(),
)
def test_no_block_is_larger_than_asked_for_and_none_changes_a_score(
    words: list[int], regions: list[int], budget: int, rows: int, costed: bool
) -> None:
    left, right = items(regions), items(words, seed=1)
    model = Costed() if costed else Product()
    block = Block(rows=rows, budget_bytes=budget)
    found = score_matrix(matcher(model), left, right, block=block)
    torch.testing.assert_close(found.i2t, product(left, right))
    for n, r, m, w in model.seen:
        assert n <= rows
        each = (r + w) * 40 if costed else r * w * 16  # four float32 arrays of affinities
        assert n * m * each <= budget or n == m == 1  # one pair is the least there is
    assert sum(n * m for n, _, m, _ in model.seen) == len(left) * len(right)


def test_sentences_of_like_length_share_a_block() -> None:
    model = Product()
    score_stripe(matcher(model), items([1]), items([9, 1, 9, 1, 9, 1]), budget_bytes=18 * 16)
    assert [(m, w) for _, _, m, w in model.seen] == [(3, 1), (2, 9), (1, 9)]


@pytest.mark.parametrize("decoupled", [False, True])
def test_aligned_rows_equal_the_diagonal_in_blocks(decoupled: bool) -> None:
    model = Product(decoupled=decoupled)
    left, right = LEFT, RIGHT.select(slice(0, 5))
    found = score_pairs(matcher(model), left, right, block=Block(budget_bytes=50 * 16))
    torch.testing.assert_close(found.i2t, product(left, right).diagonal())
    torch.testing.assert_close(found.t2i, found.i2t + (100 if decoupled else 0))
    assert len(model.seen) == 3  # 3 regions by 7 words: two pairs in a block


def test_scores_leave_as_float32() -> None:
    left, right = items([1, 2], dtype=torch.bfloat16), items([3, 1], dtype=torch.bfloat16)
    found = score_matrix(matcher(Product()), left, right)
    assert found.i2t.dtype == torch.float32
    pairs = score_pairs(matcher(Product()), left, right)
    assert pairs.i2t.dtype == torch.float32


def test_no_image_or_no_sentence_is_an_empty_matrix() -> None:
    model = matcher(Product())
    assert score_matrix(model, items([]), RIGHT).i2t.shape == (0, 6)
    assert score_matrix(model, LEFT, items([])).i2t.shape == (5, 0)
    assert score_stripe(model, items([]), RIGHT).i2t.shape == (0, 6)
    assert score_pairs(model, items([]), items([])).i2t.shape == (0,)


def test_progress_counts_every_image_once() -> None:
    told: list[int] = []
    score_matrix(matcher(Product()), LEFT, RIGHT, block=Block(rows=2), advance=told.append)
    assert told == [2, 2, 1]


def test_a_stripe_carries_gradients_and_a_matrix_none() -> None:
    left = Encoded(LEFT.tokens.clone().requires_grad_(), LEFT.mask)
    assert score_stripe(matcher(Product()), left, RIGHT, budget_bytes=144).i2t.requires_grad
    assert not score_matrix(matcher(Product()), left, RIGHT).i2t.requires_grad


def test_images_are_divided_when_one_sentence_with_all_of_them_is_too_much() -> None:
    model = Costed()  # 1 region and 4 words: 200 bytes a pair
    score_stripe(matcher(model), items([1] * 5), items([4, 4]), budget_bytes=400)
    assert [(n, m) for n, _, m, _ in model.seen] == [(2, 1), (2, 1), (1, 1)] * 2


def test_a_scorer_of_affinities_computes_about_a_million_at_once() -> None:
    model = Product()
    score_stripe(matcher(model), items([36] * 128), items([16] * 40))
    assert [n * r * m * w for n, r, m, w in model.seen] == [128 * 36 * 14 * 16] * 2 + [
        128 * 36 * 12 * 16
    ]


def test_the_cost_of_a_pair_is_the_models_to_say() -> None:
    assert isinstance(Costed(), CostedPairs)
    assert not isinstance(Product(), CostedPairs)
    assert bytes_of_pair(Costed(), 3, 4) == 280
    assert bytes_of_pair(Product(), 3, 4) == 3 * 4 * 16


def test_the_equations_of_scan_cost_attended_vectors_as_well() -> None:
    fast, plain = tiny_model("scan-t2i"), tiny_model("scan-t2i")
    assert isinstance(fast, Scan)
    assert isinstance(plain, Scan)
    plain.config = replace(plain.config, plain=True)
    with using(EAGER):
        assert bytes_of_pair(fast, 5, 3) == 4 * 4 * 15
    assert bytes_of_pair(plain, 5, 3) == 4 * 4 * 15 + 2 * 4 * 3 * DIM
    assert fast.pair_flops(5, 3) == 2 * 15 * DIM


def test_order_embeddings_cost_a_difference_of_vectors() -> None:
    assert bytes_of_pair(tiny_model("vse-order"), 1, 1) == 2 * 4 * DIM
    assert bytes_of_pair(tiny_model("vse"), 1, 1) == 4


def test_scoring_never_plans_with_more_than_two_gigabytes() -> None:
    for rows, budget in ((0, 1), (1, 0), (1, 2**30 + 1)):
        with pytest.raises(ValueError, match="must be"):
            Block(rows=rows, budget_bytes=budget)
    assert stripe_rows(128, 25_000) == 128
    assert stripe_rows(128, 10**6) * 10**6 * 4 * 2 * 3 <= 2**30
    assert stripe_rows(128, 10**9) == 1


def test_a_length_counts_gaps_and_is_never_zero() -> None:
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    found = used_lengths(Encoded(torch.zeros(3, 4, 1), mask))
    assert found.tolist() == [3, 1, 4]


@pytest.mark.parametrize("variant", ["vse", "scan-t2i", "scan-i2t"])
def test_encoding_in_batches_equals_encoding_at_once(variant: str) -> None:
    model: Any = tiny_model(variant)
    pictures, texts = images(), sentences()
    told: list[int] = []
    left = encode_images(model, pictures.select, len(pictures), batch_size=4, advance=told.append)
    right = encode_sentences(model, Numbers(texts), batch_size=3)
    assert told == [4, 2]
    expected = model.score(model.encode_images(pictures), model.encode_sentences(texts)).i2t
    torch.testing.assert_close(model.score(left, right).i2t, expected, atol=1e-5, rtol=0)
    assert not left.tokens.requires_grad
