// Cells whose affinities are given: their scores and gradients.
#pragma once

#include "slopes.h"
#include "task.h"

// What a thread needs for one cell after the other. In `to_lanes` queries stand in rows and sources
// in positions, in `from_lanes` the other way round.
class Seat {
 public:
  Memory memory;
  float *sum_gram = nullptr, *sum_norm = nullptr;  // gradients of lanes that all cells share

  Seat(const Given& given, bool slopes) : task_(given) {
    const int64_t p = task_.positions, r = task_.most_rows;
    const bool to = task_.to_lanes.used, from = task_.from_lanes.used, own = task_.aligned;
    desk_ = desk_for(memory, std::max(p, r), slopes ? p * r : 0);
    if (to) lane_gram_ = memory.take<float>(p * p * LANES);
    if (from) lane_norm_ = memory.take<float>(p * LANES);
    if (own && from) row_gram_ = memory.take<float>(r * r * LANES);
    if (own && to) row_norm_ = memory.take<float>(r * LANES);
    if (slopes && !own && task_.d_lane_gram) sum_gram = zeros(p * p * LANES);
    if (slopes && !own && task_.d_lane_norm) sum_norm = zeros(p * LANES);
    if (!own && !memory.failed) pack(0);
  }

  V score(int64_t cell) {
    if (task_.aligned) pack(cell);
    V found = V{};
    if (task_.to_lanes.used)
      found += task_.aligned ? scored<true, true>(to_lanes(cell), task_.to_lanes, desk_)
                             : scored<true, false>(to_lanes(cell), task_.to_lanes, desk_);
    if (task_.from_lanes.used)
      found += task_.aligned ? scored<true, true>(from_lanes(cell), task_.from_lanes, desk_)
                             : scored<false, true>(from_lanes(cell), task_.from_lanes, desk_);
    return found;
  }

  // Gradients of a cell are added where they belong, those of shared lanes to this thread's sums.
  void slope(int64_t cell) {
    const bool own = task_.aligned;
    if (own) pack(cell);
    const int64_t p = task_.positions, r = task_.most_rows;
    const int64_t place = own ? cell * LANES : task_.row_item[cell];  // of what is a row's own
    const V by_score = load(task_.scores + cell * LANES);
    float* affinity = task_.d_affinity + task_.start[cell] * p * LANES;
    if (task_.to_lanes.used) {
      float* gram = own ? beyond(task_.d_lane_gram, cell * p * p * LANES) : sum_gram;
      const Slopes to{affinity, gram, beyond(task_.d_row_norm, place * r), p};
      if (own) sloped<true, true>(to_lanes(cell), task_.to_lanes, desk_, by_score, to);
      else sloped<true, false>(to_lanes(cell), task_.to_lanes, desk_, by_score, to);
    }
    if (task_.from_lanes.used) {
      float* norm = own ? beyond(task_.d_lane_norm, cell * p * LANES) : sum_norm;
      const Slopes to{affinity, beyond(task_.d_row_gram, place * r * r), norm, r};
      if (own) sloped<true, true>(from_lanes(cell), task_.from_lanes, desk_, by_score, to);
      else sloped<false, true>(from_lanes(cell), task_.from_lanes, desk_, by_score, to);
    }
  }

 private:
  const Given& task_;
  Desk desk_;
  float *lane_gram_ = nullptr, *lane_norm_ = nullptr, *row_gram_ = nullptr, *row_norm_ = nullptr;

  static float* beyond(float* start, int64_t count) { return start ? start + count : nullptr; }

  float* zeros(int64_t count) {
    float* found = memory.take<float>(count);
    if (found) std::memset(found, 0, count * sizeof(float));
    return found;
  }

  void pack(int64_t cell) {
    const int64_t at = cell * LANES, p = task_.positions, r = task_.most_rows;
    const Group lanes{task_.lane_item + at, task_.lane_length + at};
    const Group rows{task_.row_item + at, task_.row_length + at};
    if (lane_gram_) pack_gram(task_.lanes, lanes, p, lane_gram_);
    if (lane_norm_) pack_norm(task_.lanes, lanes, p, lane_norm_);
    if (row_gram_) pack_gram(task_.rows, rows, r, row_gram_);
    if (row_norm_) pack_norm(task_.rows, rows, r, row_norm_);
  }

  const float* block(int64_t cell) const {
    return task_.affinity + task_.start[cell] * task_.positions * LANES;
  }

  int64_t rows_of(int64_t cell) const { return task_.start[cell + 1] - task_.start[cell]; }

  const int32_t* lane_length(int64_t cell) const {
    return task_.lane_length + (task_.aligned ? cell * LANES : 0);
  }

  View to_lanes(int64_t cell) const {
    const int64_t p = task_.positions;
    View v{block(cell), rows_of(cell), p, p * LANES, LANES, lane_gram_, row_norm_, p, nullptr,
           lane_length(cell), shortest_of(lane_length(cell))};
    if (task_.aligned) v.query_length = task_.row_length + cell * LANES;
    else v.norm = task_.rows.norm + task_.row_item[cell] * task_.rows.norm_item;
    return v;
  }

  View from_lanes(int64_t cell) const {
    const int64_t p = task_.positions;
    View v{block(cell), p, rows_of(cell), LANES, p * LANES, row_gram_, lane_norm_, task_.most_rows,
           lane_length(cell), nullptr, rows_of(cell)};
    if (task_.aligned) {
      v.source_length = task_.row_length + cell * LANES;
      v.complete = shortest_of(v.source_length);
    } else {
      v.gram = task_.rows.gram + task_.row_item[cell] * task_.rows.gram_item;
      v.gram_step = task_.rows.gram_row;
    }
    return v;
  }
};
