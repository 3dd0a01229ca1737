"""One tile of the Triton kernel: an item of rows with a few items of columns, on the chip.

A tile is (rows, items, places): affinities of the vectors of one left item with those of some
right items; `left` and `right` are each a `triton_launch.Side`. Both directions of looking are the
same code: QUERY and SOURCE name the axes, 0 for rows and 2 for places. Equations and letters are
those of `cell.h` and `slopes.h`.

This module imports Triton, and is imported only where that is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visavis.kernels.spec import FOCAL_TIE

EPSILON = tl.constexpr(1e-8)  # added to norms
SQUARE_FLOOR = tl.constexpr(1e-24)  # of the squared norm before its root
COSINE_FLOOR = tl.constexpr(1e-8)  # of |q| |sum a v|
LENGTH_FLOOR = tl.constexpr(1e-16)  # of |sum a v|^2
KEEP = tl.constexpr(1 - FOCAL_TIE)  # a share of the focal threshold
NONE, EQUAL, PROB = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
LOG_SUM_EXP, MEAN, MAX = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def floored(value, floor):
    """At least so much; NaN stays NaN."""
    return tl.where(value < floor, floor, value)


@triton.jit
def item_of_rows(left, place):
    """The number of the item at a place of the launch, and how many of its vectors are real."""
    item = tl.load(left.chosen + place).to(tl.int64)
    return item, tl.load(left.length + item)


@triton.jit
def items_of_columns(right, tile, ITEMS: tl.constexpr):
    """The same for the items of a tile: numbers, lengths, and whether there are such items.

    Where there is none, a zero vector stands: its scores are finite and are not written.
    """
    place = tile * ITEMS + tl.arange(0, ITEMS)
    there = place < right.count
    item = tl.load(right.chosen + place, mask=there, other=0).to(tl.int64)
    return item, tl.load(right.length + item, mask=there, other=1), there


@triton.jit
def vectors_at(side, item, place):
    """Where vectors begin, in vectors: flat (places,)."""
    return item * side.longest + place


@triton.jit
def columns_at(right, item, there, length, ITEMS: tl.constexpr, WORDS: tl.constexpr):
    """Where the vectors of a tile begin, and which are real: (items * places,) each."""
    word = tl.arange(0, WORDS)[None, :]
    at = vectors_at(right, item[:, None], word)
    real = (word < length[:, None]) & there[:, None]
    return tl.reshape(at, (ITEMS * WORDS,)), tl.reshape(real, (ITEMS * WORDS,))


@triton.jit
def multiplied(
    left,
    right,
    row_at,
    row_real,
    column_at,
    column_real,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Affinities (rows, items * places); 0 where either is padding."""
    along = tl.arange(0, BLOCK)
    rows = left.vectors + row_at[:, None] * DEPTH + along[None, :]
    columns = right.vectors + column_at[:, None] * DEPTH + along[None, :]
    found = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, DEPTH, BLOCK):
        inside = along[None, :] < DEPTH - start
        one = tl.load(rows, mask=row_real[:, None] & inside, other=0.0)
        other = tl.load(columns, mask=column_real[:, None] & inside, other=0.0)
        found = tl.dot(one, tl.trans(other), found, input_precision=PRECISION)
        rows += BLOCK
        columns += BLOCK
    return found


@triton.jit
def gram_of_row(left, item, length, ROWS: tl.constexpr):
    """The Gram matrix of an item: (rows, rows)."""
    row = tl.arange(0, ROWS)
    at = left.gram + vectors_at(left, item, row)[:, None] * left.longest + row[None, :]
    return tl.load(at, mask=(row < length)[:, None] & (row < length)[None, :], other=0.0)


@triton.jit
def columns_of_gram(right, column_at, column_real, WORDS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where the Gram matrices of a tile lie as the blocks of one of (columns, columns)."""
    column = tl.arange(0, COLUMNS)
    same = (column[:, None] // WORDS) == (column[None, :] // WORDS)
    real = same & column_real[:, None] & column_real[None, :]
    return column_at[:, None] * right.longest + (column % WORDS)[None, :], real


@triton.jit
def weighed(
    s,
    sources,
    count,
    smooth,
    FOCAL: tl.constexpr,
    QUERY: tl.constexpr,
    SOURCE: tl.constexpr,
):
    """Attention before and after the focus, and for each source |x|^2 and what x is multiplied by.

    The softmax needs `sources` (real ones), the focus their `count`.
    """
    x = tl.where(s > 0, s, 0.1 * s)
    square = tl.sum(x * x, axis=QUERY, keep_dims=True)
    inverse = 1.0 / (tl.sqrt(floored(square, SQUARE_FLOOR)) + EPSILON)
    logits = tl.where(sources, smooth * (x * inverse), float("-inf"))
    power = tl.exp(logits - tl.max(logits, axis=SOURCE, keep_dims=True))
    soft = power / tl.sum(power, axis=SOURCE, keep_dims=True)
    kept = soft
    if FOCAL == EQUAL:
        kept = tl.where(soft > KEEP / count, soft, 0.0)
    if FOCAL == PROB:
        root = tl.sqrt(soft)
        more = tl.sum(soft * root, axis=SOURCE, keep_dims=True)
        kept = tl.where(soft > KEEP * more / tl.sum(root, axis=SOURCE, keep_dims=True), soft, 0.0)
    return soft, kept, square, inverse


@triton.jit
def through_gram(
    kept,
    gram,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    WORDS: tl.constexpr,
    SOURCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """G a of every query."""
    flat = tl.reshape(kept, (ROWS, ITEMS * WORDS))
    if SOURCE == 0:
        found = tl.dot(gram, flat, input_precision=PRECISION)
    else:
        found = tl.dot(flat, gram, input_precision=PRECISION)
    return tl.reshape(found, (ROWS, ITEMS, WORDS))


@triton.jit
def related(s, kept, turned, norm, SOURCE: tl.constexpr):
    """Cosine r of each query with what it attends to, |sum a v|^2, and |sum a v| not below a floor.

    `turned` is G a, `norm` the lengths of the queries.
    """
    square = tl.sum(kept * turned, axis=SOURCE, keep_dims=True)
    length = tl.sqrt(floored(square, LENGTH_FLOOR))
    relevance = tl.sum(kept * s, axis=SOURCE, keep_dims=True) / floored(norm * length, COSINE_FLOOR)
    return relevance, square, length


@triton.jit
def aggregated(relevance, queries, count, sharpness, HOW: tl.constexpr, QUERY: tl.constexpr):
    """Scores (1, items, 1) from relevances; `queries` are the real ones, `count` their number."""
    if HOW == LOG_SUM_EXP:
        top = tl.max(tl.where(queries, relevance, float("-inf")), axis=QUERY, keep_dims=True)
        power = tl.where(queries, tl.exp(sharpness * (relevance - top)), 0.0)
        return top + tl.log(tl.sum(power, axis=QUERY, keep_dims=True)) / sharpness
    total = tl.sum(tl.where(queries, relevance, 0.0), axis=QUERY, keep_dims=True)
    if HOW == MAX:  # a maximum leaves NaN out; the sum does not
        top = tl.max(tl.where(queries, relevance, float("-inf")), axis=QUERY, keep_dims=True)
        return tl.where(total == total, top, total)
    if HOW == MEAN:
        return total / count
    return total


@triton.jit
def slopes_of_queries(
    relevance, queries, count, slope, sharpness, HOW: tl.constexpr, QUERY: tl.constexpr
):
    """Slopes of the loss by relevances, from those by scores (1, items, 1)."""
    weight = tl.where(queries, 1.0, 0.0)
    if HOW == LOG_SUM_EXP:
        top = tl.max(tl.where(queries, relevance, float("-inf")), axis=QUERY, keep_dims=True)
        weight = tl.where(queries, tl.exp(sharpness * (relevance - top)), 0.0)
        weight = weight / tl.sum(weight, axis=QUERY, keep_dims=True)
    if HOW == MEAN:
        weight = weight / count
    if HOW == MAX:  # equal ones share
        top = tl.max(tl.where(queries, relevance, float("-inf")), axis=QUERY, keep_dims=True)
        weight = tl.where(queries & (relevance == top), 1.0, 0.0)
        weight = weight / tl.sum(weight, axis=QUERY, keep_dims=True)
    return weight * slope


@triton.jit
def slopes_of_affinity(
    s,
    attention,
    turned,
    slopes,
    smooth,
    QUERY: tl.constexpr,
    SOURCE: tl.constexpr,
):
    """Slopes by affinities, through softmax, focus, normalisation and clipping.

    `attention` is what `weighed` gives; `slopes` are those by sum a s and by a' G a.
    """
    soft, kept, square, inverse = attention
    by_dot, by_square = slopes
    part = kept * (by_dot * s + 2.0 * by_square * turned)
    back = smooth * (part - soft * tl.sum(part, axis=SOURCE, keep_dims=True))
    x = tl.where(s > 0, s, 0.1 * s)
    total = tl.sum(back * x, axis=QUERY, keep_dims=True)
    twice = -total * inverse * inverse / tl.sqrt(floored(square, SQUARE_FLOOR))
    by = back * inverse + tl.where(square < SQUARE_FLOOR, 0.0, twice) * x
    return tl.where(s > 0, by, 0.1 * by) + by_dot * kept
