"""The scoring engine: where matrices are kept, how blocks are cut, what leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.tiny import images, sentences, tiny_model
from tests.unit.test_files import files_up_to
from visavis.data.sentences import pad
from visavis.errors import StorageError
from visavis.scoring import matrix
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.scoring.matrix import Block, score_aligned, score_matrix, score_stripe
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
    block = Block(rows=2, affinities=9)
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
    st.integers(1, 200),
    st.integers(1, 4),
)
def test_no_block_is_larger_than_asked_for_and_none_changes_a_score(
    words: list[int], regions: list[int], affinities: int, rows: int
) -> None:
    left, right = items(regions), items(words, seed=1)
    model = Product()
    block = Block(rows=rows, affinities=affinities)
    found = score_matrix(matcher(model), left, right, block=block)
    torch.testing.assert_close(found.i2t, product(left, right))
    for n, r, m, w in model.seen:
        assert n <= rows
        assert n * r * m * w <= affinities or m == 1  # one sentence is the least there is
    assert sum(n * m for n, _, m, _ in model.seen) == len(left) * len(right)


def test_sentences_of_like_length_share_a_block() -> None:
    model = Product()
    score_stripe(matcher(model), items([1]), items([9, 1, 9, 1, 9, 1]), affinities=18)
    assert [(m, w) for _, _, m, w in model.seen] == [(3, 1), (2, 9), (1, 9)]


@pytest.mark.parametrize("decoupled", [False, True])
def test_aligned_rows_equal_the_diagonal_in_blocks(decoupled: bool) -> None:
    model = Product(decoupled=decoupled)
    left, right = LEFT, RIGHT.select(slice(0, 5))
    found = score_aligned(matcher(model), left, right, affinities=50)
    torch.testing.assert_close(found.i2t, product(left, right).diagonal())
    torch.testing.assert_close(found.t2i, found.i2t + (100 if decoupled else 0))
    assert len(model.seen) == 3  # 3 regions by 7 words: two pairs in a block


def test_scores_leave_as_float32() -> None:
    left, right = items([1, 2], dtype=torch.bfloat16), items([3, 1], dtype=torch.bfloat16)
    found = score_matrix(matcher(Product()), left, right)
    assert found.i2t.dtype == torch.float32
    pairs = score_aligned(matcher(Product()), left, right)
    assert pairs.i2t.dtype == torch.float32


def test_no_image_or_no_sentence_is_an_empty_matrix() -> None:
    model = matcher(Product())
    assert score_matrix(model, items([]), RIGHT).i2t.shape == (0, 6)
    assert score_matrix(model, LEFT, items([])).i2t.shape == (5, 0)
    assert score_stripe(model, items([]), RIGHT).i2t.shape == (0, 6)
    assert score_aligned(model, items([]), items([])).i2t.shape == (0,)


def test_progress_counts_every_image_once() -> None:
    told: list[int] = []
    score_matrix(matcher(Product()), LEFT, RIGHT, block=Block(rows=2), advance=told.append)
    assert told == [2, 2, 1]


def test_a_stripe_carries_gradients_and_a_matrix_none() -> None:
    left = Encoded(LEFT.tokens.clone().requires_grad_(), LEFT.mask)
    assert score_stripe(matcher(Product()), left, RIGHT, affinities=9).i2t.requires_grad
    assert not score_matrix(matcher(Product()), left, RIGHT).i2t.requires_grad


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
