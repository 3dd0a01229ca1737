// Scores of cross attention without a tensor of all affinities, and their gradients.
//
// Called through ctypes by visavis/kernels/native.py, whose structures have the same fields in the
// same order. Work is divided among as many threads as torch uses, in fixed shares. Every function
// returns 0, or 1 when memory was short.
#include "all.h"
#include "given.h"

extern "C" int visavis_lanes() { return LANES; }

extern "C" int visavis_bfloat16() { return UNIT<Half> == 2; }

// Scores of every item of one side with every item of the other.
extern "C" int visavis_scores(const All* task) {
  int64_t most_rows;
  const auto starts = chunks_of(task->item_length, task->count, &most_rows);
  const int64_t chunks = static_cast<int64_t>(starts.size()) - 1, tasks = task->groups * chunks;
  const int64_t positions = longest_of(task->lane_length, task->groups * LANES);
  const int64_t longest = std::max<int64_t>(positions, longest_of(task->item_length, task->count));
  int failed = 0;
  in_threads(std::min<int64_t>(task->threads, tasks), [&](int number, int threads) {
    Worker worker(*task, longest, positions, most_rows);
    if (worker.memory.failed) {
      failed = 1;
      return;
    }
    const auto [first, last] = share(tasks, number, threads);
    for (int64_t t = first, group = -1; t < last; ++t) {
      if (t / chunks != group) worker.begin(group = t / chunks);
      worker.score(starts[t % chunks], starts[t % chunks + 1]);
    }
  });
  return failed;
}

// Scores of cells.
extern "C" int visavis_cells(const Given* task) {
  int failed = 0;
  in_threads(std::min<int64_t>(task->threads, task->cells), [&](int number, int threads) {
    Seat seat(*task, false);
    if (seat.memory.failed) {
      failed = 1;
      return;
    }
    const auto [first, last] = share(task->cells, number, threads);
    for (int64_t cell = first; cell < last; ++cell)
      store(task->scores + cell * LANES, seat.score(cell));
  });
  return failed;
}

// Gradients of cells.
extern "C" int visavis_slopes(const Given* task) {
  const int64_t p = task->positions, count = std::min<int64_t>(task->threads, task->cells);
  std::vector<Seat*> seats(std::max<int64_t>(count, 1), nullptr);
  int failed = 0;
  in_threads(count, [&](int number, int threads) {
    seats[number] = new Seat(*task, true);
    if (seats[number]->memory.failed) {
      failed = 1;
      return;
    }
    const auto [first, last] = share(task->cells, number, threads);
    for (int64_t cell = first; cell < last; ++cell) seats[number]->slope(cell);
  });
  for (Seat* seat : seats) {
    if (!seat) continue;
    if (seat->sum_gram && !failed)
      for (int64_t i = 0; i < p * p * LANES; ++i) task->d_lane_gram[i] += seat->sum_gram[i];
    if (seat->sum_norm && !failed)
      for (int64_t i = 0; i < p * LANES; ++i) task->d_lane_norm[i] += seat->sum_norm[i];
    delete seat;
  }
  return failed;
}
