// Walks through time by one thread for each number of the state, for scans that have no product in them.
//
// Such a scan reads and writes each number once, so its cost is that of the memory traffic. Neighbouring threads take
// neighbouring numbers of a row. A thread fetches the numbers of the next steps before it works on these, because only
// the state has to wait for the step before.
#pragma once

#include "common/cuda.cuh"

namespace memsuite::cuda {

// Calls read(i, t) for the next kAhead steps from step `begin` of the walk on, forwards or, with Reverse, from the end.
template <bool Reverse, class Number, class Read>
__device__ inline void each_step(int64_t begin, int64_t steps, const Read& read) {
#pragma unroll
  for (int i = 0; i < kAhead<Number>; ++i) {
    const int64_t step = begin + i;
    if (step < steps) read(i, Reverse ? steps - 1 - step : step);
  }
}

}  // namespace memsuite::cuda
