// Inner products of rows with packed columns, in float32 or of bfloat16 numbers summed in float32.
#pragma once

#include "units.h"

// R rows with N vectors of columns; columns lie as (width, N, LANES).
template <int R, int N>
static void tile(const float* const* rows, const float* columns, int64_t width, float* to,
                 int64_t step) {
  V sums[R][N] = {};
  for (int64_t k = 0; k < width; ++k) {
    V right[N];
    for (int n = 0; n < N; ++n) right[n] = load(columns + (k * N + n) * LANES);
    for (int r = 0; r < R; ++r) {
      const float left = rows[r][k];
      for (int n = 0; n < N; ++n) sums[r][n] += left * right[n];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store(to + r * step + n * LANES, sums[r][n]);
}

#if defined(__AVX512BF16__)
// The same for pairs of neighbouring numbers: columns lie as (width / 2, N, LANES, 2).
template <int R, int N>
static void tile(const uint16_t* const* rows, const uint16_t* columns, int64_t width, float* to,
                 int64_t step) {
  __m512 sums[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) sums[r][n] = _mm512_setzero_ps();
  for (int64_t k = 0; k < width; k += 2) {
    __m512i right[N];
    for (int n = 0; n < N; ++n) right[n] = _mm512_loadu_si512(columns + (k * N + n * 2) * LANES);
    for (int r = 0; r < R; ++r) {
      int32_t two;
      std::memcpy(&two, rows[r] + k, 4);
      const __m512i left = _mm512_set1_epi32(two);
      for (int n = 0; n < N; ++n)
        sums[r][n] = _mm512_dpbf16_ps(sums[r][n], (__m512bh)left, (__m512bh)right[n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(to + r * step + n * LANES, sums[r][n]);
}
#endif

template <int N, typename T>
static void rows_with_panel(const T* const* rows, int64_t count, const T* columns, int64_t width,
                            float* to, int64_t step) {
  int64_t r = 0;
  for (; r + TILE_ROWS <= count; r += TILE_ROWS)
    tile<TILE_ROWS, N>(rows + r, columns, width, to + r * step, step);
  for (; r + 4 <= count; r += 4) tile<4, N>(rows + r, columns, width, to + r * step, step);
  for (; r + 2 <= count; r += 2) tile<2, N>(rows + r, columns, width, to + r * step, step);
  if (r < count) tile<1, N>(rows + r, columns, width, to + r * step, step);
}

// Every row with every column: (count, positions, LANES). Columns come in panels of two positions.
template <typename T>
static void multiply(const T* const* rows, int64_t count, const T* packed, int64_t positions,
                     int64_t width, float* to) {
  const int64_t step = positions * LANES;
  for (int64_t p = 0; p + 2 <= positions; p += 2)
    rows_with_panel<2>(rows, count, packed + p * LANES * width, width, to + p * LANES, step);
  if (positions % 2) {
    const int64_t p = positions - 1;
    rows_with_panel<1>(rows, count, packed + p * LANES * width, width, to + p * LANES, step);
  }
}
