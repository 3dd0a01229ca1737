"""Scores in bfloat16: float32 out, a stated error, and what it changes for ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import VARIANTS, images, sentences, tiny_model
from visavis.kernels.choose import EAGER, using, usual_kernel
from visavis.scoring.matrix import Block, score_matrix, score_pairs
from visavis.scoring.precision import at_precision, changed_share, rank_changes
from visavis.types import Scores

HALF = Block(precision="bf16")
EXACT = ("vse", "vsrn", "saem")  # the score is one inner product, which stays float32
LARGEST_OF_BFAN = 0.05  # one source more or less at the threshold
LARGEST = 0.02  # of all variants but BFAN's, times the largest score; docs/scoring.md says so


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "bfan" not in name])
def test_scores_in_bfloat16_are_float32_and_close(variant: str) -> None:
    model: Any = tiny_model(variant)
    with torch.inference_mode():
        left, right = model.encode_images(images()), model.encode_sentences(sentences())
    exact, found = (score_matrix(model, left, right, block=block) for block in (Block(), HALF))
    limit = LARGEST * max(1.0, float(exact.i2t.abs().max()))
    limit = 0.0 if VARIANTS[variant][0] in EXACT else limit
    for one, other in ((exact.i2t, found.i2t), (exact.t2i, found.t2i)):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, one, atol=limit, rtol=0)
    pairs = score_pairs(model, left, right.select(slice(0, len(left))), block=HALF)
    assert pairs.i2t.dtype == torch.float32
    torch.testing.assert_close(pairs.i2t, exact.i2t.diagonal(), atol=max(limit, 1e-5), rtol=0)


@pytest.mark.parametrize("kernel", ["native", EAGER])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if "bfan" in name])
def test_scores_of_bfan_are_close_too(variant: str, kernel: str) -> None:
    if kernel != EAGER and usual_kernel() != kernel:
        pytest.skip("no native kernel here")
    model: Any = tiny_model(variant)
    with torch.inference_mode(), using(kernel):
        left, right = model.encode_images(images()), model.encode_sentences(sentences())
        exact, found = (score_matrix(model, left, right, block=block) for block in (Block(), HALF))
        pairs = score_pairs(model, left, right.select(slice(0, len(left))), block=HALF)
    assert found.i2t.dtype == torch.float32
    torch.testing.assert_close(found.i2t, exact.i2t, atol=LARGEST_OF_BFAN, rtol=0)
    torch.testing.assert_close(pairs.i2t, exact.i2t.diagonal(), atol=LARGEST_OF_BFAN, rtol=0)


def test_outside_of_scoring_nothing_is_rounded() -> None:
    ones = torch.full((4, 4), 1 / 3)
    exact = ones @ ones
    with at_precision("bf16", "cpu"):
        assert (ones @ ones).dtype == torch.bfloat16
    with at_precision("fp32", "cpu"):
        assert torch.equal(ones @ ones, exact)


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be fp32 or bf16"):
        Block(precision="fp16")  # type: ignore[arg-type]


def test_changes_by_hand() -> None:
    exact = Scores.shared(torch.tensor([[0.9, 0.2, 0.1], [0.3, 0.5, 0.4]]))
    fast = Scores.shared(torch.tensor([[0.9, 0.2, 0.1], [0.3, 0.5, 0.625]]))
    found = rank_changes(exact, fast, np.array([[0, 0], [1, 1], [1, 2]]))
    assert found.max_error == pytest.approx(0.225)
    assert found.i2t_top1 == 0.5  # of two images one prefers another sentence
    assert found.i2t_top10 == 0.0  # all three sentences are among the best ten
    assert found.t2i_top1 == 0.0
    assert found.recall["rsum"] == 0.0
    worse = Scores.shared(torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.5, 0.4]]))
    assert rank_changes(exact, worse, np.array([[0, 0], [1, 1], [1, 2]])).recall["i2t_r1"] == -50


def test_equal_scores_are_no_change() -> None:
    scores = torch.zeros(3, 40)
    assert changed_share(scores, scores.clone(), 10) == 0.0
    moved = scores.clone()
    moved[1, 39] = 1.0
    assert changed_share(scores, moved, 10) == pytest.approx(1 / 3)
