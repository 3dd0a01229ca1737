"""Gradients by the Triton kernel: a program owns an item of one side and goes through the other.

Affinities are multiplied again. Nobody else adds to what a program owns, so nothing is atomic and
sums have one order. Tiles without a slope are passed over. A program of many `splits` takes every
so-manieth tile, and has memory of its own for its sums.

This module imports Triton, and is imported only where that is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visavis.kernels.triton_tile import (
    COSINE_FLOOR,
    LENGTH_FLOOR,
    columns_at,
    columns_of_gram,
    floored,
    gram_of_row,
    item_of_rows,
    items_of_columns,
    multiplied,
    related,
    slopes_of_affinity,
    slopes_of_queries,
    through_gram,
    vectors_at,
    weighed,
)


@triton.jit
def one_way(
    s,
    slope,
    gram,
    norm,
    queries,
    sources,
    query_count,
    source_count,
    smooth,
    sharpness,
    FOCAL: tl.constexpr,
    HOW: tl.constexpr,
    QUERY: tl.constexpr,
    SOURCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Slopes of one direction: by affinities, what weighs a a' in those by G, those by norms."""
    attention = weighed(s, sources, source_count, smooth, FOCAL, QUERY, SOURCE)
    _, kept, _, _ = attention
    turned = through_gram(kept, gram, s.shape[0], s.shape[1], s.shape[2], SOURCE, PRECISION)
    relevance, square, length = related(s, kept, turned, norm, SOURCE)
    by = slopes_of_queries(relevance, queries, query_count, slope, sharpness, HOW, QUERY)
    product = norm * length
    by_dot = by / floored(product, COSINE_FLOOR)
    by_product = tl.where(product < COSINE_FLOOR, 0.0, -relevance * by_dot)
    by_square = tl.where(square < LENGTH_FLOOR, 0.0, 0.5 * by_product * norm / length)
    by_affinity = slopes_of_affinity(
        s, attention, turned, (by_dot, by_square), smooth, QUERY, SOURCE
    )
    return by_affinity, kept, by_square, by_product * length


@triton.jit
def by_gram(
    kept, weight, SIZE: tl.constexpr, OTHER: tl.constexpr, OF_ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum over queries of (slope by a' G a) a a': (SIZE, SIZE)."""
    if OF_ROWS:
        one = tl.reshape(kept, (SIZE, OTHER))
        other = tl.reshape(kept * weight, (SIZE, OTHER))
        return tl.dot(one, tl.trans(other), input_precision=PRECISION)
    one = tl.reshape(kept, (OTHER, SIZE))
    other = tl.reshape(kept * weight, (OTHER, SIZE))
    return tl.dot(tl.trans(one), other, input_precision=PRECISION)


@triton.jit
def add_vectors(
    into, owned_at, owned_real, side, at, real, by, DEPTH: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Add slopes by affinities (owned, others) times the others' vectors to those of the owned."""
    along = tl.arange(0, BLOCK)
    sums = into + owned_at[:, None] * DEPTH + along[None, :]
    vectors = side.vectors + at[:, None] * DEPTH + along[None, :]
    for start in range(0, DEPTH, BLOCK):
        inside = along[None, :] < DEPTH - start
        mask = owned_real[:, None] & inside
        other = tl.load(vectors, mask=real[:, None] & inside, other=0.0).to(tl.float32)
        before = tl.load(sums, mask=mask, other=0.0)
        tl.store(sums, tl.dot(by, other, before, input_precision=PRECISION), mask=mask)
        sums += BLOCK
        vectors += BLOCK


@triton.jit
def slope_tiles(
    left,
    right,
    sums,
    slopes,
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
    OF_ROWS: tl.constexpr,
    VECTORS: tl.constexpr,
    OWN: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    HALF_PRECISION: tl.constexpr,
):
    """Gradients of one left item (OF_ROWS) or of a tile of right ones, by all of the other side.

    VECTORS: those by vectors are wanted; OWN: those by Gram matrices and norms are.
    """
    COLUMNS: tl.constexpr = ITEMS * WORDS
    SIZE: tl.constexpr = ROWS if OF_ROWS else COLUMNS
    OTHER: tl.constexpr = COLUMNS if OF_ROWS else ROWS
    owner, split = tl.program_id(0), tl.program_id(1)
    first, last, step = split, left.count, tl.num_programs(1)
    if OF_ROWS:
        last = tl.cdiv(right.count, ITEMS)
    if ALIGNED:
        first, last, step = owner, owner + 1, 1
    in_split = split.to(tl.int64) * sums.step
    rows = tl.arange(0, ROWS)
    words = tl.arange(0, WORDS)
    gram_sum = tl.zeros((SIZE, SIZE), tl.float32)
    norm_sum = tl.zeros((SIZE,), tl.float32)
    other = first
    while other < last:
        place = owner if OF_ROWS else other
        tile = other if OF_ROWS else owner
        row, row_length = item_of_rows(left, place)
        item, length, there = items_of_columns(right, tile, ITEMS)
        at = slopes + row * row_step + item * column_step
        slope = tl.load(at, mask=there, other=0.0)
        if tl.sum((slope != 0.0).to(tl.int32), axis=0) > 0:
            row_at, row_real = vectors_at(left, row, rows), rows < row_length
            column_at, column_real = columns_at(right, item, there, length, ITEMS, WORDS)
            s = multiplied(
                left, right, row_at, row_real, column_at, column_real, DEPTH, ROWS, COLUMNS,
                BLOCK, PRECISION,
            )  # fmt: skip
            s = tl.reshape(s, (ROWS, ITEMS, WORDS))
            by_score = slope[None, :, None]
            count = length[None, :, None].to(tl.float32)
            row_count = row_length.to(tl.float32)
            real_rows = row_real[:, None, None]
            real_words = words[None, None, :] < length[None, :, None]
            by = tl.zeros((ROWS, ITEMS, WORDS), tl.float32)
            if COLUMN_FOCAL >= 0:
                gram = gram_of_row(left, row, row_length, ROWS)
                norm = tl.load(right.norm + column_at, mask=column_real, other=0.0)
                norm = tl.reshape(norm, (1, ITEMS, WORDS))
                by_s, kept, weight, by_norm = one_way(
                    s, by_score, gram, norm, real_words, real_rows, count, row_count, column_smooth,
                    column_sharpness, COLUMN_FOCAL, COLUMN_HOW, 2, 0, PRECISION,
                )  # fmt: skip
                by += by_s
                if OWN and OF_ROWS:
                    gram_sum += by_gram(kept, weight, SIZE, OTHER, True, PRECISION)
                if OWN and not OF_ROWS:
                    norm_sum += tl.reshape(by_norm, (SIZE,))
            if ROW_FOCAL >= 0:
                gram_at, gram_real = columns_of_gram(right, column_at, column_real, WORDS, COLUMNS)
                gram = tl.load(right.gram + gram_at, mask=gram_real, other=0.0)
                norm = tl.load(left.norm + row_at, mask=row_real, other=0.0)[:, None, None]
                by_s, kept, weight, by_norm = one_way(
                    s, by_score, gram, norm, real_rows, real_words, row_count, count, row_smooth,
                    row_sharpness, ROW_FOCAL, ROW_HOW, 0, 2, PRECISION,
                )  # fmt: skip
                by += by_s
                if OWN and not OF_ROWS:
                    gram_sum += by_gram(kept, weight, SIZE, OTHER, False, PRECISION)
                if OWN and OF_ROWS:
                    norm_sum += tl.reshape(tl.sum(by_norm, axis=1), (SIZE,))
            if VECTORS:
                into = sums.vectors + in_split * DEPTH
                flat = tl.reshape(by, (ROWS, COLUMNS))
                if OF_ROWS:
                    add_vectors(
                        into, row_at, row_real, right, column_at, column_real, flat, DEPTH,
                        BLOCK, HALF_PRECISION,
                    )  # fmt: skip
                else:
                    add_vectors(
                        into, column_at, column_real, left, row_at, row_real, tl.trans(flat),
                        DEPTH, BLOCK, HALF_PRECISION,
                    )  # fmt: skip
                tl.debug_barrier()  # the next tile reads what other threads have written
        other += step
    if OWN:
        put_own(
            left, right, sums, owner, in_split, gram_sum, norm_sum, COLUMN_FOCAL, ROW_FOCAL,
            OF_ROWS, ROWS, ITEMS, WORDS,
        )  # fmt: skip


@triton.jit
def add(to, value, mask):
    """Add to memory that nobody else writes to."""
    tl.store(to, tl.load(to, mask=mask, other=0.0) + value, mask=mask)


@triton.jit
def put_own(
    left,
    right,
    sums,
    owner,
    in_split,
    gram_sum,
    norm_sum,
    COLUMN_FOCAL: tl.constexpr,
    ROW_FOCAL: tl.constexpr,
    OF_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Add the sums by Gram matrices and norms to those of earlier launches."""
    if OF_ROWS:
        rows = tl.arange(0, ROWS)
        row, row_length = item_of_rows(left, owner)
        at, real = vectors_at(left, row, rows), rows < row_length
        if COLUMN_FOCAL >= 0:
            to = sums.gram + (in_split + at)[:, None] * left.longest + rows[None, :]
            add(to, gram_sum, real[:, None] & real[None, :])
        if ROW_FOCAL >= 0:
            add(sums.norm + in_split + at, norm_sum, real)
    else:
        item, length, there = items_of_columns(right, owner, ITEMS)
        at, real = columns_at(right, item, there, length, ITEMS, WORDS)
        if ROW_FOCAL >= 0:
            gram_at, gram_real = columns_of_gram(right, at, real, WORDS, ITEMS * WORDS)
            add(sums.gram + in_split * right.longest + gram_at, gram_sum, gram_real)
        if COLUMN_FOCAL >= 0:
            add(sums.norm + in_split + at, norm_sum, real)
