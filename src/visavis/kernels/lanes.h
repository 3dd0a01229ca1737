// Vectors of several items at once ("lanes"), and the functions that are needed of them.
//
// Every number of an affinity block stands beside the same number of the next items: sums and
// maxima over words or regions are then sums and maxima of whole vectors, and no length has to be a
// multiple of anything.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16;      // items in a vector
constexpr int TILE_ROWS = 8;   // rows of a product that are kept in registers
constexpr int GRAM_ROWS = 4;   // rows of a Gram matrix that are multiplied together
#else
constexpr int LANES = 8;
constexpr int TILE_ROWS = 6;
constexpr int GRAM_ROWS = 2;
#endif

typedef float V __attribute__((vector_size(LANES * 4)));
typedef int32_t I __attribute__((vector_size(LANES * 4)));

static inline V load(const float* from) {
  V found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

static inline void store(float* to, V value) { std::memcpy(to, &value, sizeof value); }

static inline I load(const int32_t* from) {
  I found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

static inline V all(float value) { return V{} + value; }

static inline V larger(V one, V other) { return one > other ? one : other; }

static inline V leaky(V x) { return larger(x, 0.1f * x); }

static inline V root(V x) {
  float each[LANES];
  store(each, x);
  for (int lane = 0; lane < LANES; ++lane) each[lane] = std::sqrt(each[lane]);
  return load(each);
}

static inline float total(V x) {
  float each[LANES], sum = 0;
  store(each, x);
  for (int lane = 0; lane < LANES; ++lane) sum += each[lane];
  return sum;
}

// exp(x) for x <= 0, to 1.2e-7 relative; 0 below -87. With x = n ln 2 + r it is 2^n times a
// polynomial of r, whose coefficients are those of Cephes.
static inline V exp_of(V x) {
  const V bounded = x < -87.0f ? all(-87.0f) : x;  // NaN stays NaN
  const V shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: n stands in the last bits
  const V n = shifted - 12582912.0f;
  const V r = bounded - n * 0.693359375f - n * -2.12194440e-4f;
  V p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  I bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;
  V power;
  std::memcpy(&power, &bits, sizeof power);
  return x < -87.0f ? V{} : p * power;
}

static inline V log_of(V x) {
  float each[LANES];
  store(each, x);
  for (int lane = 0; lane < LANES; ++lane) each[lane] = std::log(each[lane]);
  return load(each);
}
