// The arguments of a kernel of the sLSTM recurrence; see memsuite/ops/scans/slstm_scan.py. No torch here.
#pragma once

#include <cstdint>

#include "common/gated_job.h"

namespace memsuite {

// out, states, cells, totals, peaks and the gradients that reach them are [steps, batch, size]; gi and d_gi are
// [steps, batch, 4 size]; gates [steps, batch, 5 size]; weights and d_w [4 size, size].
template <class T>
struct SlstmScanJob {
  int64_t steps, batch, size;
  const T *gi = nullptr, *h0 = nullptr, *c0 = nullptr, *n0 = nullptr, *m0 = nullptr;
  const T *states = nullptr, *weights = nullptr, *biases = nullptr;
  const T *grad = nullptr, *grad_cells = nullptr, *grad_totals = nullptr;
  const bool* reset = nullptr;
  T *out = nullptr, *cells = nullptr, *totals = nullptr, *peaks = nullptr, *gates = nullptr;
  T *d_gi = nullptr, *d_h0 = nullptr, *d_c0 = nullptr, *d_n0 = nullptr, *d_w = nullptr, *d_b = nullptr;
};

template <class T>
using SlstmScanKernels = GatedKernels<SlstmScanJob<T>, T>;

}  // namespace memsuite
