// Gradients of one cell: what a score loses or gains with affinities, Gram matrices and norms.
//
// Attention is computed again from the affinities. Which sources the focus keeps has no gradient.
#pragma once

#include "cell.h"

// Where gradients are added up; each lies as what it belongs to in the View. Null: not wanted.
struct Slopes {
  float *affinity, *gram, *norm;
  int64_t gram_step;
};

// Slopes of the score by each r(q), from that of the loss by the score.
template <bool QUERY>
static void slopes_of_queries(const View& v, const Way& way, const Desk& desk, V slope) {
  const bool by_best = way.aggregation == LOG_SUM_EXP || way.aggregation == MAX;
  const V top = by_best ? best<QUERY>(v, desk) : V{};
  V sum = V{};  // MAX: equal ones share; LogSumExp: its softmax
  for (int64_t q = 0; q < v.queries; ++q) {
    V weight = all(1.0f);
    if (way.aggregation == LOG_SUM_EXP) weight = exp_of((desk.relevance[q] - top) * way.sharpness);
    if (way.aggregation == MAX) weight = desk.relevance[q] == top ? all(1.0f) : V{};
    desk.slope[q] = is_real<QUERY>(v, q) ? weight : V{};
    sum += desk.slope[q];
  }
  const V share = way.aggregation == SUM ? slope : slope / sum;
  for (int64_t q = 0; q < v.queries; ++q) desk.slope[q] *= share;
}

// Forward again for T queries: attention before and after the focus, relevance, |sum a v|.
template <int T, bool GRAM, bool QUERY>
static void relate_again(const View& v, const Way& way, const Desk& desk, int64_t first) {
  V dot[T], scale[T], least[T], square[T];
  attend<T, GRAM>(v, way, desk, first, desk.tile, dot, scale, least);
  auto keep = [&](V* to) {
    for (int64_t s = 0; s < v.sources; ++s)
      for (int j = 0; j < T; ++j) to[(first + j) * v.sources + s] = desk.tile[s * T + j] * scale[j];
  };
  keep(desk.attention);
  if (way.focal != NONE) {
    focus<T>(v, first, least, desk.tile, dot);
    keep(desk.focused);
  }
  squares<T, GRAM>(v, desk.tile, square);
  for (int j = 0; j < T; ++j) {
    const V given = square[j] * scale[j] * scale[j];
    const V length = root(larger(given, all(COSINE_FLOOR * COSINE_FLOOR)));
    desk.relevance[first + j] = cosine(dot[j] * scale[j], entry<QUERY>(v.norm, first + j), length);
    // The length's sign says whether the floor held it up: then it has no gradient.
    desk.norm[first + j] = given >= COSINE_FLOOR * COSINE_FLOOR ? length : -length;
  }
}

// Slopes by sum a s and by a' G a, from that by r = sum a s / (|q| length); that by |q| goes out.
template <bool QUERY>
static void slopes_of_cosine(const View& v, const Desk& desk, const Slopes& to, int64_t q) {
  const V norm = entry<QUERY>(v.norm, q);
  const V length = desk.norm[q] < 0.0f ? -desk.norm[q] : desk.norm[q];
  const V product = norm * length;
  const V by_dot = desk.slope[q] / larger(product, all(COSINE_FLOOR));
  const V by_product = product >= COSINE_FLOOR ? -desk.relevance[q] * by_dot : V{};
  if (to.norm) {
    float* place = to.norm + q * (QUERY ? LANES : 1);
    if constexpr (QUERY) store(place, load(place) + by_product * length);
    else *place += total(by_product * length);
  }
  desk.slope[q] = by_dot;
  desk.threshold[q] = desk.norm[q] > 0.0f ? 0.5f * by_product * norm / length : V{};  // by a' G a
}

// Slopes by the logits of T queries, through softmax and focus, into `back`.
template <int T, bool GRAM>
static void slopes_of_logits(const View& v, const Way& way, const Desk& desk, int64_t first) {
  const V* a = desk.focused + first * v.sources;
  V inner[T] = {};
  int64_t s = 0;
  auto rows = [&](auto count) {
    constexpr int N = decltype(count)::value;
    V sums[N][T] = {};  // G a
    for (int64_t t = 0; t < v.sources; ++t)
      for (int i = 0; i < N; ++i) {
        const V g = entry<GRAM>(v.gram, (s + i) * v.gram_step + t);
        for (int j = 0; j < T; ++j) sums[i][j] += g * a[j * v.sources + t];
      }
    for (int i = 0; i < N; ++i, ++s)
      for (int j = 0; j < T; ++j) {
        const int64_t q = first + j;
        const V by_weight = desk.slope[q] * v.at(q, s) + 2.0f * desk.threshold[q] * sums[i][j];
        const V part = a[j * v.sources + s] * by_weight;
        desk.back[q * v.sources + s] = part;
        inner[j] += part;
      }
  };
  while (s + GRAM_ROWS <= v.sources) rows(std::integral_constant<int, GRAM_ROWS>{});
  while (s < v.sources) rows(std::integral_constant<int, 1>{});
  for (int j = 0; j < T; ++j)
    for (int64_t i = (first + j) * v.sources; i < (first + j + 1) * v.sources; ++i)
      desk.back[i] = way.smooth * (desk.back[i] - desk.attention[i] * inner[j]);
}

// Slopes by the affinities: through the normalisation over queries, the clipping, and sum a s.
static void slopes_of_affinity(const View& v, const Desk& desk, float* to) {
  for (int64_t s = 0; s < v.sources; ++s) {
    V sum = V{};
    for (int64_t q = 0; q < v.queries; ++q)
      sum += desk.back[q * v.sources + s] * leaky(v.at(q, s));
    const V square = desk.square[s], inverse = desk.inverse[s];
    const V by_square = -0.5f * sum * inverse * inverse / root(larger(square, all(SQUARE_FLOOR)));
    const V twice = square >= SQUARE_FLOOR ? 2.0f * by_square : V{};
    for (int64_t q = 0; q < v.queries; ++q) {
      const V given = v.at(q, s);
      V by = desk.back[q * v.sources + s] * inverse + twice * leaky(given);
      by = given > 0.0f ? by : 0.1f * by;
      by += desk.slope[q] * desk.focused[q * v.sources + s];
      float* place = to + q * v.query_step + s * v.source_step;
      store(place, load(place) + by);
    }
  }
}

// Slopes by the Gram matrix: sum over queries of (slope by a' G a) a a'.
template <bool GRAM>
static void slopes_of_gram(const View& v, const Desk& desk, const Slopes& to) {
  int64_t s = 0, t = 0;
  auto add = [&](int64_t row, int64_t column, V value) {
    const int64_t place = row * to.gram_step + column;
    if constexpr (GRAM) store(to.gram + place * LANES, load(to.gram + place * LANES) + value);
    else to.gram[place] += total(value);
  };
  auto block = [&](auto high, auto wide) {
    constexpr int N = decltype(high)::value, M = decltype(wide)::value;
    V sums[N][M] = {};
    for (int64_t q = 0; q < v.queries; ++q) {
      const V* a = desk.focused + q * v.sources;
      for (int i = 0; i < N; ++i) {
        const V left = desk.threshold[q] * a[s + i];
        for (int j = 0; j < M; ++j) sums[i][j] += left * a[t + j];
      }
    }
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < M; ++j) {
        add(s + i, t + j, sums[i][j]);
        if (t < s) add(t + j, s + i, sums[i][j]);
      }
    t += M;
  };
  constexpr std::integral_constant<int, GRAM_ROWS> many;
  constexpr std::integral_constant<int, 1> one;
  for (; s + GRAM_ROWS <= v.sources; s += GRAM_ROWS)
    for (t = 0; t <= s;) block(many, many);
  for (; s < v.sources; ++s) {
    for (t = 0; t + GRAM_ROWS <= s;) block(one, many);
    while (t <= s) block(one, one);
  }
}

template <bool GRAM, bool QUERY>
static void sloped(const View& v, const Way& way, Desk desk, V slope, const Slopes& to) {
  if (way.focal == NONE) desk.focused = desk.attention;
  measure_sources(v, desk);
  auto each_query = [&](auto&& four, auto&& two, auto&& one) {
    int64_t q = 0;
    for (; q + 4 <= v.queries; q += 4) four(q);
    for (; q + 2 <= v.queries; q += 2) two(q);
    if (q < v.queries) one(q);
  };
  each_query([&](int64_t q) { relate_again<4, GRAM, QUERY>(v, way, desk, q); },
             [&](int64_t q) { relate_again<2, GRAM, QUERY>(v, way, desk, q); },
             [&](int64_t q) { relate_again<1, GRAM, QUERY>(v, way, desk, q); });
  slopes_of_queries<QUERY>(v, way, desk, slope);
  for (int64_t q = 0; q < v.queries; ++q) slopes_of_cosine<QUERY>(v, desk, to, q);
  each_query([&](int64_t q) { slopes_of_logits<4, GRAM>(v, way, desk, q); },
             [&](int64_t q) { slopes_of_logits<2, GRAM>(v, way, desk, q); },
             [&](int64_t q) { slopes_of_logits<1, GRAM>(v, way, desk, q); });
  slopes_of_affinity(v, desk, to.affinity);
  if (to.gram) slopes_of_gram<GRAM>(v, desk, to);
}
