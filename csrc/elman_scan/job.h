// The arguments of a kernel of Elman's recurrence; see memsuite/ops/scans/elman_scan.py. No torch here.
#pragma once

#include <cstdint>

#include "common/gated_job.h"

namespace memsuite {

// gi, out, states, grad and d_gi are [steps, batch, size]; weights and d_w [size, size].
template <class T>
struct ElmanScanJob {
  int64_t steps, batch, size;
  const T *gi = nullptr, *h0 = nullptr, *states = nullptr, *weights = nullptr, *biases = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *out = nullptr, *d_gi = nullptr, *d_h0 = nullptr, *d_w = nullptr, *d_b = nullptr;
};

template <class T>
using ElmanScanKernels = GatedKernels<ElmanScanJob<T>, T>;

}  // namespace memsuite
