"""Scores by the Triton kernel: a program writes those of one left item with a few right ones.

This module imports Triton, and is imported only where that is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visavis.kernels.triton_tile import (
    aggregated,
    columns_at,
    columns_of_gram,
    gram_of_row,
    item_of_rows,
    items_of_columns,
    multiplied,
    related,
    through_gram,
    vectors_at,
    weighed,
)

NEIGHBOURS = tl.constexpr(16)  # left items whose programs run one after the other, for the cache


@triton.jit
def place_of(program, rows, tiles, ALIGNED: tl.constexpr):
    """Which left item and which tile of right ones a program takes."""
    if ALIGNED:
        return program, program
    first = program // (NEIGHBOURS * tiles) * NEIGHBOURS
    beside = tl.minimum(rows - first, NEIGHBOURS)
    within = program % (NEIGHBOURS * tiles)
    return first + within % beside, within // beside


@triton.jit
def score_by_columns(
    s,
    left,
    right,
    row,
    row_length,
    column_at,
    column_real,
    length,
    smooth,
    sharpness,
    FOCAL: tl.constexpr,
    HOW: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scores (1, items, 1) where the places of columns look at rows."""
    rows: tl.constexpr = s.shape[0]
    items: tl.constexpr = s.shape[1]
    words: tl.constexpr = s.shape[2]
    sources = (tl.arange(0, rows) < row_length)[:, None, None]
    _, kept, _, _ = weighed(s, sources, row_length.to(tl.float32), smooth, FOCAL, 2, 0)
    gram = gram_of_row(left, row, row_length, rows)
    turned = through_gram(kept, gram, rows, items, words, 0, PRECISION)
    norm = tl.load(right.norm + column_at, mask=column_real, other=0.0)
    norm = tl.reshape(norm, (1, items, words))
    relevance, _, _ = related(s, kept, turned, norm, 0)
    queries = tl.arange(0, words)[None, None, :] < length[None, :, None]
    count = length[None, :, None].to(tl.float32)
    return aggregated(relevance, queries, count, sharpness, HOW, 2)


@triton.jit
def score_by_rows(
    s,
    left,
    right,
    row,
    row_length,
    column_at,
    column_real,
    length,
    smooth,
    sharpness,
    FOCAL: tl.constexpr,
    HOW: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scores (1, items, 1) where rows look at the places of columns."""
    rows: tl.constexpr = s.shape[0]
    items: tl.constexpr = s.shape[1]
    words: tl.constexpr = s.shape[2]
    sources = tl.arange(0, words)[None, None, :] < length[None, :, None]
    count = length[None, :, None].to(tl.float32)
    _, kept, _, _ = weighed(s, sources, count, smooth, FOCAL, 0, 2)
    at, real = columns_of_gram(right, column_at, column_real, words, items * words)
    gram = tl.load(right.gram + at, mask=real, other=0.0)
    turned = through_gram(kept, gram, rows, items, words, 2, PRECISION)
    place = tl.arange(0, rows)
    norm = tl.load(left.norm + vectors_at(left, row, place), mask=place < row_length, other=0.0)
    relevance, _, _ = related(s, kept, turned, norm[:, None, None], 2)
    queries = (place < row_length)[:, None, None]
    return aggregated(relevance, queries, row_length.to(tl.float32), sharpness, HOW, 0)


@triton.jit
def score_tiles(
    left,
    right,
    scores,
    row_step,
    column_step,
    row_smooth,
    row_sharpness,
    column_smooth,
    column_sharpness,
    ROW_FOCAL: tl.constexpr,
    ROW_HOW: tl.constexpr,
    COLUMN_FOCAL: tl.constexpr,
    COLUMN_HOW: tl.constexpr,
    ALIGNED: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the scores of a tile. ROW_FOCAL or COLUMN_FOCAL is -1 where that side does not look."""
    place, tile = place_of(tl.program_id(0), left.count, tl.cdiv(right.count, ITEMS), ALIGNED)
    row, row_length = item_of_rows(left, place)
    item, length, there = items_of_columns(right, tile, ITEMS)
    rows = tl.arange(0, ROWS)
    column_at, column_real = columns_at(right, item, there, length, ITEMS, WORDS)
    s = multiplied(
        left, right, vectors_at(left, row, rows), rows < row_length, column_at, column_real,
        DEPTH, ROWS, ITEMS * WORDS, BLOCK, PRECISION,
    )  # fmt: skip
    s = tl.reshape(s, (ROWS, ITEMS, WORDS))
    found = tl.zeros((1, ITEMS, 1), tl.float32)
    if COLUMN_FOCAL >= 0:
        found += score_by_columns(
            s, left, right, row, row_length, column_at, column_real, length, column_smooth,
            column_sharpness, COLUMN_FOCAL, COLUMN_HOW, PRECISION,
        )  # fmt: skip
    if ROW_FOCAL >= 0:
        found += score_by_rows(
            s, left, right, row, row_length, column_at, column_real, length, row_smooth,
            row_sharpness, ROW_FOCAL, ROW_HOW, PRECISION,
        )  # fmt: skip
    at = scores + row * row_step + item * column_step
    tl.store(at, tl.reshape(found, (ITEMS,)), mask=there)
