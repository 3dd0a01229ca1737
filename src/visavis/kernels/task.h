// What visavis/kernels/native.py hands over, the memory of a thread, and packing by lanes.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "cell.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

// The tensors of one side; steps are in numbers.
struct Side {
  const float *vectors, *gram, *norm;  // (items, L, D), (items, L, L), (items, L)
  int64_t vector_item, vector_token, gram_item, gram_row, norm_item;
};

// Every item of one side with every item of the other.
struct All {
  Side lanes, items;
  int64_t width, groups, count;
  const int64_t* lane_item;    // (groups, LANES) or -1
  const int32_t* lane_length;  // (groups, LANES) at least 1
  const int32_t* item_length;  // (count)
  Way to_lanes, from_lanes;    // who is looked at: lanes, or items
  float* scores;
  int64_t lane_step, item_step;
  int32_t bfloat16, threads;
};

// Cells whose affinities are given. Aligned: each has LANES pairs of its own. Else all have the
// same lanes, and each is one item of the other side, which no other is.
struct Given {
  Side lanes, rows;
  int64_t cells, positions, most_rows;
  const float* affinity;       // (start[cells], positions, LANES)
  const int64_t* start;        // (cells + 1) first row of each cell
  const int64_t* lane_item;    // (LANES), aligned: (cells, LANES); -1: none
  const int32_t* lane_length;
  const int64_t* row_item;     // (cells), aligned: (cells, LANES); -1: none
  const int32_t* row_length;
  Way to_lanes, from_lanes;
  float* scores;               // (cells, LANES); slopes of the loss where gradients are asked for
  // Gradients are added up here. Null: not wanted, but for affinities.
  float* d_affinity;                 // as affinity
  float *d_lane_gram, *d_lane_norm;  // (positions, positions, LANES), (positions, LANES)
  float *d_row_gram, *d_row_norm;    // (items, most_rows, most_rows), (items, most_rows)
  int32_t aligned, threads;          // aligned: those four have (cells) first and (LANES) last
};

// Memory of a thread, at the start of a cache line.
class Memory {
 public:
  bool failed = false;

  ~Memory() {
    for (void* block : blocks_) std::free(block);
  }

  template <typename T>
  T* take(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;
    void* block = std::aligned_alloc(64, bytes);
    if (!block) {
      failed = true;
      return nullptr;
    }
    blocks_.push_back(block);
    return static_cast<T*>(block);
  }

 private:
  std::vector<void*> blocks_;
};

// `area`: queries times sources, where gradients are asked for.
static Desk desk_for(Memory& memory, int64_t longest, int64_t area) {
  Desk desk{};
  for (V** each : {&desk.square, &desk.inverse, &desk.relevance, &desk.norm, &desk.threshold,
                   &desk.slope})
    *each = memory.take<V>(longest);
  desk.tile = memory.take<V>(longest * 4);
  if (area)
    for (V** each : {&desk.attention, &desk.focused, &desk.back}) *each = memory.take<V>(area);
  return desk;
}

static int32_t longest_of(const int32_t* lengths, int64_t count) {
  return count ? *std::max_element(lengths, lengths + count) : 0;
}

static int32_t shortest_of(const int32_t* lengths) {
  return *std::min_element(lengths, lengths + LANES);
}

// LANES items, of which those below 0 are none.
struct Group {
  const int64_t* item;
  const int32_t* length;
};

// Gram matrices of a group as (positions, positions, LANES), 0 beyond their lengths.
static void pack_gram(const Side& side, Group group, int64_t positions, float* to) {
  std::memset(to, 0, positions * positions * LANES * sizeof(float));
  for (int lane = 0; lane < LANES; ++lane) {
    if (group.item[lane] < 0) continue;
    const float* from = side.gram + group.item[lane] * side.gram_item;
    for (int64_t s = 0; s < group.length[lane]; ++s)
      for (int64_t t = 0; t < group.length[lane]; ++t)
        to[(s * positions + t) * LANES + lane] = from[s * side.gram_row + t];
  }
}

// Norms of a group as (positions, LANES), 0 beyond their lengths.
static void pack_norm(const Side& side, Group group, int64_t positions, float* to) {
  std::memset(to, 0, positions * LANES * sizeof(float));
  for (int lane = 0; lane < LANES; ++lane)
    for (int64_t s = 0; group.item[lane] >= 0 && s < group.length[lane]; ++s)
      to[s * LANES + lane] = side.norm[group.item[lane] * side.norm_item + s];
}

// Calls work(number, threads) in each of at most so many threads.
template <typename F>
static void in_threads(int64_t threads, F&& work) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(static_cast<int>(std::max<int64_t>(threads, 1)))
  work(omp_get_thread_num(), omp_get_num_threads());
#else
  (void)threads;
  work(0, 1);
#endif
}

// First and last of a thread's share of a number of tasks.
static inline std::pair<int64_t, int64_t> share(int64_t tasks, int number, int threads) {
  return {tasks * number / threads, tasks * (number + 1) / threads};
}
