// The arguments of a kernel of the GRU recurrence; see memsuite/ops/scans/gru_scan.py. No torch here.
#pragma once

#include <cstdint>

#include "common/gated_job.h"

namespace memsuite {

// out, states, candidates, grad and d_gn are [steps, batch, size]; gi, gates and d_gi [steps, batch, 3 size];
// weights and d_w [3 size, size], unless the binding says that they are transposed.
template <class T>
struct GruScanJob {
  int64_t steps, batch, size;
  const T *gi = nullptr, *h0 = nullptr, *states = nullptr, *weights = nullptr, *biases = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *out = nullptr, *gates = nullptr, *candidates = nullptr;
  T *d_gi = nullptr, *d_gn = nullptr, *d_h0 = nullptr, *d_w = nullptr, *d_b = nullptr;
  T* previous = nullptr;  // CUDA only: the states before each step, [steps, batch, size]
};

template <class T>
using GruScanKernels = GatedKernels<GruScanJob<T>, T>;

}  // namespace memsuite
