// Walks through time by one thread per number of the state, for scans without a product.
//
// Such a scan reads and writes each number once, so memory traffic determines its cost. Neighbouring threads take
// neighbouring numbers of a row. A thread fetches the numbers of the next steps before it needs them, because only
// the state depends on the step before.
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
