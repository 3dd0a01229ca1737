// One cell: affinities of one item with LANES others, or of LANES pairs, seen in one direction.
//
// Affinity s(q, v) of query q and source v, numbered as in visavis.layers.attention:
//   x(q, v) = max(s, 0.1 s)                    clipping
//   y(q, v) = x(q, v) / |x(., v)|              over the queries
//   a(q, .) = softmax of smooth * y(q, .)      attention; focal: small ones become 0
//   r(q)    = sum a s / (|q| sqrt(a' G a))     cosine of q and sum a v
//   score   = LogSumExp, mean, maximum or sum of r
#pragma once

#include "lanes.h"

constexpr float EPSILON = 1e-8f;         // added to norms
constexpr float SQUARE_FLOOR = 1e-24f;   // of the squared norm before its root
constexpr float COSINE_FLOOR = 1e-8f;    // of |q| |sum a v|, and of |sum a v|

enum Focal { NONE = 0, EQUAL = 1, PROB = 2 };
enum Aggregation { LOG_SUM_EXP = 0, MEAN = 1, MAX = 2, SUM = 3 };

// The settings of one direction of looking; visavis/kernels/native.py has the same fields.
struct Way {
  int32_t used, focal, aggregation;
  float smooth, sharpness, keep;
};

// GRAM: every lane has sources of its own. QUERY: every lane has queries of its own.
struct View {
  const float* affinity;            // (queries, sources, LANES) by the steps
  int64_t queries, sources, query_step, source_step;
  const float* gram;                // GRAM: (sources, sources, LANES), else without LANES
  const float* norm;                // QUERY: (queries, LANES), else (queries)
  int64_t gram_step;                // from one row of the Gram matrix to the next, in entries
  const int32_t* query_length;      // (LANES) real queries, where QUERY
  const int32_t* source_length;     // (LANES) real sources, where GRAM
  int64_t complete;                 // so many sources are real in every lane

  V at(int64_t q, int64_t s) const { return load(affinity + q * query_step + s * source_step); }
};

template <bool VECTOR>
static inline V entry(const float* from, int64_t index) {
  if constexpr (VECTOR) return load(from + index * LANES);
  else return all(from[index]);
}

// What a pass over a cell leaves: per source, per query, and per both. Memory of one thread.
struct Desk {
  V *square, *inverse;              // (sources) |x(., v)|²; what x is multiplied by
  V *relevance, *norm, *threshold;  // (queries) r, |sum a v|, the least attention that is kept
  V *slope;                         // (queries) of the loss by r
  V *tile;                          // (sources, 4)
  V *attention, *focused, *back;    // (queries, sources) softmax, what is kept of it, slope by y
};

static void measure_sources(const View& v, const Desk& desk) {
  for (int64_t s = 0; s < v.sources; ++s) desk.square[s] = V{};
  for (int64_t q = 0; q < v.queries; ++q)
    for (int64_t s = 0; s < v.sources; ++s) {
      const V x = leaky(v.at(q, s));
      desk.square[s] += x * x;
    }
  for (int64_t s = 0; s < v.sources; ++s)
    desk.inverse[s] = 1.0f / (root(larger(desk.square[s], all(SQUARE_FLOOR))) + EPSILON);
}

// a' G a of T queries; `a` is (sources, T). G is symmetric: each pair of sources counts twice.
template <int T, bool GRAM>
static void squares(const View& v, const V* a, V* found) {
  for (int j = 0; j < T; ++j) found[j] = V{};
  int64_t first = 0;
  auto rows = [&](auto count) {
    constexpr int N = decltype(count)::value;
    V sums[N][T] = {};
    for (int64_t t = 0; t < first; ++t)
      for (int i = 0; i < N; ++i) {
        const V g = entry<GRAM>(v.gram, (first + i) * v.gram_step + t);
        for (int j = 0; j < T; ++j) sums[i][j] += g * a[t * T + j];
      }
    for (int i = 0; i < N; ++i) {
      const int64_t s = first + i;
      for (int64_t t = first; t < s; ++t) {
        const V g = entry<GRAM>(v.gram, s * v.gram_step + t);
        for (int j = 0; j < T; ++j) sums[i][j] += g * a[t * T + j];
      }
      const V own = entry<GRAM>(v.gram, s * v.gram_step + s);
      for (int j = 0; j < T; ++j)
        found[j] += a[s * T + j] * (own * a[s * T + j] + 2.0f * sums[i][j]);
    }
    first += N;
  };
  while (first + GRAM_ROWS <= v.sources) rows(std::integral_constant<int, GRAM_ROWS>{});
  while (first < v.sources) rows(std::integral_constant<int, 1>{});
}

// Attention of T queries from `first`, focused, into `a` (sources, T) up to the factor `scale`.
// Returns in `least` what attention had to exceed to be kept, in units of `a`.
template <int T, bool GRAM>
static void attend(const View& v, const Way& way, const Desk& desk, int64_t first, V* a, V* dot,
                   V* scale, V* least) {
  V top[T], sum[T] = {}, more[T] = {}, less[T] = {};
  for (int j = 0; j < T; ++j) top[j] = all(-INFINITY);
  for (int64_t s = 0; s < v.sources; ++s) {
    const V factor = way.smooth * desk.inverse[s];
    for (int j = 0; j < T; ++j) {
      V logit = leaky(v.at(first + j, s)) * factor;
      if (GRAM && s >= v.complete)
        logit = load(v.source_length) > static_cast<int32_t>(s) ? logit : all(-INFINITY);
      a[s * T + j] = logit;
      top[j] = larger(logit, top[j]);
    }
  }
  for (int j = 0; j < T; ++j) dot[j] = V{}, least[j] = all(-1.0f);
  for (int64_t s = 0; s < v.sources; ++s)
    for (int j = 0; j < T; ++j) {
      const V e = exp_of(a[s * T + j] - top[j]);
      a[s * T + j] = e;
      sum[j] += e;
      if (way.focal == NONE) dot[j] += e * v.at(first + j, s);
      if (way.focal == PROB) {
        const V r = root(e);
        more[j] += e * r;
        less[j] += r;
      }
    }
  for (int j = 0; j < T; ++j) scale[j] = 1.0f / sum[j];
  if (way.focal == NONE) return;
  V count = all(static_cast<float>(v.sources));
  if (GRAM)
    for (int lane = 0; lane < LANES; ++lane) count[lane] = v.source_length[lane];
  for (int j = 0; j < T; ++j)
    least[j] = way.keep * (way.focal == EQUAL ? sum[j] / count : more[j] / less[j]);
}

// Takes away what the focus does not keep; completes the inner products.
template <int T>
static void focus(const View& v, int64_t first, const V* least, V* a, V* dot) {
  for (int64_t s = 0; s < v.sources; ++s)
    for (int j = 0; j < T; ++j) {
      const V kept = a[s * T + j] > least[j] ? a[s * T + j] : V{};
      a[s * T + j] = kept;
      dot[j] += kept * v.at(first + j, s);
    }
}

static inline V cosine(V dot, V norm, V length) {
  return dot / larger(norm * length, all(COSINE_FLOOR));
}

template <int T, bool GRAM, bool QUERY>
static void relate(const View& v, const Way& way, const Desk& desk, int64_t first) {
  V dot[T], scale[T], least[T], square[T];
  attend<T, GRAM>(v, way, desk, first, desk.tile, dot, scale, least);
  if (way.focal != NONE) focus<T>(v, first, least, desk.tile, dot);
  squares<T, GRAM>(v, desk.tile, square);
  for (int j = 0; j < T; ++j) {
    const V floored = larger(square[j] * scale[j] * scale[j], all(COSINE_FLOOR * COSINE_FLOOR));
    desk.relevance[first + j] =
        cosine(dot[j] * scale[j], entry<QUERY>(v.norm, first + j), root(floored));
  }
}

template <bool QUERY>
static inline I is_real(const View& v, int64_t q) {
  if constexpr (QUERY) return load(v.query_length) > static_cast<int32_t>(q);
  else return I{} == I{};
}

template <bool QUERY>
static inline V number_of_queries(const View& v) {
  V count = all(static_cast<float>(v.queries));
  if constexpr (QUERY)
    for (int lane = 0; lane < LANES; ++lane) count[lane] = v.query_length[lane];
  return count;
}

template <bool QUERY>
static V best(const View& v, const Desk& desk) {
  V top = all(-INFINITY);
  for (int64_t q = 0; q < v.queries; ++q) {
    const V r = desk.relevance[q];
    const I better = is_real<QUERY>(v, q) & ((r > top) | (r != r));  // NaN wins
    top = better ? r : top;
  }
  return top;
}

template <bool QUERY>
static V aggregated(const View& v, const Way& way, const Desk& desk) {
  if (way.aggregation == MAX) return best<QUERY>(v, desk);
  V sum = V{};
  if (way.aggregation == LOG_SUM_EXP) {
    const V top = best<QUERY>(v, desk) * way.sharpness;
    for (int64_t q = 0; q < v.queries; ++q)
      sum += is_real<QUERY>(v, q) ? exp_of(desk.relevance[q] * way.sharpness - top) : V{};
    return (top + log_of(sum)) / way.sharpness;
  }
  for (int64_t q = 0; q < v.queries; ++q) sum += is_real<QUERY>(v, q) ? desk.relevance[q] : V{};
  return way.aggregation == SUM ? sum : sum / number_of_queries<QUERY>(v);
}

template <bool GRAM, bool QUERY>
static V scored(const View& v, const Way& way, const Desk& desk) {
  measure_sources(v, desk);
  int64_t q = 0;
  for (; q + 4 <= v.queries; q += 4) relate<4, GRAM, QUERY>(v, way, desk, q);
  for (; q + 2 <= v.queries; q += 2) relate<2, GRAM, QUERY>(v, way, desk, q);
  if (q < v.queries) relate<1, GRAM, QUERY>(v, way, desk, q);
  return aggregated<QUERY>(v, way, desk);
}
