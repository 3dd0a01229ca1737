// Every item with every other: affinities come in blocks that a cache holds, and go at once.
#pragma once

#include <type_traits>

#include "product.h"
#include "task.h"

constexpr int64_t CHUNK_ROWS = 192;  // rows of a block of affinities

// Vectors of a group as the columns of a product: panels of two positions, which lie as
// (width / UNIT, 2, LANES, UNIT). Whatever there is not is 0.
template <typename T>
static void pack_columns(const All& task, Group group, int64_t positions, int64_t width, T* to) {
  constexpr int64_t STEP = LANES * UNIT<T>;  // numbers of each vector at a time
  const Side& side = task.lanes;
  for (int64_t first = 0; first < positions; first += 2) {
    const int64_t wide = std::min<int64_t>(2, positions - first);
    T* place = to + first * LANES * width;
    for (int64_t k = 0; k < width; k += STEP) {
      const int64_t count = std::min<int64_t>(LANES, (width - k) / UNIT<T>);
      for (int64_t n = 0; n < wide; ++n) {
        V block[LANES];
        for (int lane = 0; lane < LANES; ++lane) {
          const bool real = group.item[lane] >= 0 && first + n < group.length[lane];
          const float* from = side.vectors + k;
          if (real) from += group.item[lane] * side.vector_item + (first + n) * side.vector_token;
          block[lane] = some_units<T>(from, real ? task.width - k : 0, task.bfloat16);
        }
        transpose(block);
        for (int64_t u = 0; u < count; ++u)
          std::memcpy(place + (u * wide + n) * STEP, &block[u], sizeof(V));
      }
      place += count * wide * STEP;
    }
  }
}

// What a thread needs to score blocks of one group after the other.
class Worker {
 public:
  Memory memory;

  Worker(const All& given, int64_t longest, int64_t most_positions, int64_t most_rows)
      : task_(given), width_(given.width + given.width % 2), rows_(most_rows), halves_(most_rows) {
    desk_ = desk_for(memory, longest, 0);
    columns_ = memory.take<float>(most_positions * LANES * width_);
    affinity_ = memory.take<float>(most_rows * most_positions * LANES);
    if (task_.to_lanes.used) gram_ = memory.take<float>(most_positions * most_positions * LANES);
    if (task_.from_lanes.used) norm_ = memory.take<float>(most_positions * LANES);
    if (task_.bfloat16) copy_ = memory.take<Half>(most_rows * width_);
  }

  void begin(int64_t group) {
    group_ = {task_.lane_item + group * LANES, task_.lane_length + group * LANES};
    positions_ = longest_of(group_.length, LANES);
    if (task_.bfloat16)
      pack_columns(task_, group_, positions_, width_, reinterpret_cast<Half*>(columns_));
    else
      pack_columns(task_, group_, positions_, task_.width, columns_);
    if (gram_) pack_gram(task_.lanes, group_, positions_, gram_);
    if (norm_) pack_norm(task_.lanes, group_, positions_, norm_);
  }

  void score(int64_t first, int64_t last) {
    multiply_rows(first, last);
    const float* block = affinity_;
    for (int64_t i = first; i < last; ++i) {
      float each[LANES];
      store(each, score_item(i, block));
      for (int lane = 0; lane < LANES; ++lane)
        if (group_.item[lane] >= 0)
          task_.scores[group_.item[lane] * task_.lane_step + i * task_.item_step] = each[lane];
      block += task_.item_length[i] * positions_ * LANES;
    }
  }

 private:
  const All& task_;
  Group group_{};
  int64_t positions_ = 0, width_;  // width: even, as bfloat16 numbers go in pairs
  Desk desk_;
  float *columns_, *affinity_, *gram_ = nullptr, *norm_ = nullptr;
  Half* copy_ = nullptr;
  std::vector<const float*> rows_;
  std::vector<const Half*> halves_;

  void multiply_rows(int64_t first, int64_t last) {
    const Side& side = task_.items;
    int64_t count = 0;
    for (int64_t i = first; i < last; ++i)
      for (int64_t p = 0; p < task_.item_length[i]; ++p)
        rows_[count++] = side.vectors + i * side.vector_item + p * side.vector_token;
    if (!task_.bfloat16) {
      multiply(rows_.data(), count, columns_, positions_, task_.width, affinity_);
      return;
    }
    for (int64_t r = 0; r < count; ++r) {
      halves_[r] = copy_ + r * width_;
      for (int64_t k = 0; k < width_; k += LANES * UNIT<Half>) {
        const V some = some_units<Half>(rows_[r] + k, task_.width - k, true);
        const size_t bytes = std::min<int64_t>(LANES * 4, (width_ - k) * sizeof(Half));
        std::memcpy(copy_ + r * width_ + k, &some, bytes);
      }
    }
    multiply(halves_.data(), count, reinterpret_cast<const Half*>(columns_), positions_, width_,
             affinity_);
  }

  V score_item(int64_t item, const float* block) {
    const int64_t rows = task_.item_length[item], step = positions_ * LANES;
    const Side& side = task_.items;
    V found = V{};
    if (task_.to_lanes.used) {
      const View v{block, rows, positions_, step, LANES, gram_, side.norm + item * side.norm_item,
                   positions_, nullptr, group_.length, shortest_of(group_.length)};
      found += scored<true, false>(v, task_.to_lanes, desk_);
    }
    if (task_.from_lanes.used) {
      const View v{block, positions_, rows, LANES, step, side.gram + item * side.gram_item, norm_,
                   side.gram_row, group_.length, nullptr, rows};
      found += scored<false, true>(v, task_.from_lanes, desk_);
    }
    return found;
  }
};

// First items of chunks of about CHUNK_ROWS rows, and the number of items at the end.
static std::vector<int64_t> chunks_of(const int32_t* length, int64_t count, int64_t* most_rows) {
  std::vector<int64_t> starts{0};
  int64_t rows = 0;
  *most_rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (rows && rows + length[i] > CHUNK_ROWS) {
      starts.push_back(i);
      rows = 0;
    }
    rows += length[i];
    *most_rows = std::max(*most_rows, rows);
  }
  starts.push_back(count);
  return starts;
}
