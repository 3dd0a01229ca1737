// Numbers as products take them, four bytes at a time: one float32, or two bfloat16.
#pragma once

#include "lanes.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
typedef uint16_t Half;  // what products of bfloat16 numbers are made of
#else
typedef float Half;     // the same numbers where no instructions multiply them
#endif

template <typename T>
constexpr int UNIT = 4 / sizeof(T);  // numbers in four bytes

// The nearest bfloat16 of each, ties to even, as a float32.
static inline V nearest_half(V x) {
  I bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & ~0xFFFF;
  V found;
  std::memcpy(&found, &bits, sizeof found);
  return x == x ? found : x;
}

// LANES units from LANES * UNIT numbers that lie together.
template <typename T>
static inline V units(const float* from) {
#if defined(__AVX512BF16__)
  if constexpr (UNIT<T> == 2) {
    const auto both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + LANES), _mm512_loadu_ps(from));
    V found;
    std::memcpy(&found, &both, sizeof found);
    return found;
  }
#endif
  return load(from);
}

// The same for the first `count` numbers, and 0 behind them. `half` where T alone does not say so.
template <typename T>
static inline V some_units(const float* from, int64_t count, bool half) {
  float padded[LANES * UNIT<T>] = {};
  if (count < LANES * UNIT<T>) {
    if (count > 0) std::memcpy(padded, from, count * sizeof(float));
    from = padded;
  }
  const V found = units<T>(from);
  return half && UNIT<T> == 1 ? nearest_half(found) : found;
}

// Rows to columns: entry j of rows[i] goes to entry i of rows[j]. Halves of a square are exchanged,
// then halves of each half.
template <int HALF = LANES / 2>
static inline void transpose(V (&rows)[LANES]) {
#if defined(__clang__)
  float whole[LANES][LANES];
  std::memcpy(whole, rows, sizeof whole);
  for (int i = 0; i < LANES; ++i)
    for (int j = 0; j < LANES; ++j) rows[j][i] = whole[i][j];
#else
  I low, high;  // entries of two rows, one behind the other
  for (int j = 0; j < LANES; ++j) {
    low[j] = j & HALF ? LANES + j - HALF : j;
    high[j] = j & HALF ? LANES + j : j + HALF;
  }
#pragma GCC unroll 8
  for (int n = 0; n < LANES / 2; ++n) {
    const int i = n / HALF * 2 * HALF + n % HALF;
    const V one = rows[i], other = rows[i + HALF];
    rows[i] = __builtin_shuffle(one, other, low);
    rows[i + HALF] = __builtin_shuffle(one, other, high);
  }
  if constexpr (HALF > 1) transpose<HALF / 2>(rows);
#endif
}
