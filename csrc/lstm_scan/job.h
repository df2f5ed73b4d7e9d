// The arguments of a kernel of the LSTM recurrence; see memsuite/ops/scans/lstm_scan.py. No torch here.
#pragma once

#include <cstdint>

#include "common/gated_job.h"

namespace memsuite {

// out, states, cells and the gradients that reach them are [steps, batch, size]; gi, gates and d_gi are
// [steps, batch, 4 size]; weights and d_w [4 size, size].
template <class T>
struct LstmScanJob {
  int64_t steps, batch, size;
  const T *gi = nullptr, *h0 = nullptr, *c0 = nullptr, *states = nullptr, *weights = nullptr, *biases = nullptr;
  const T *grad = nullptr, *grad_cells = nullptr;  // grad_cells stays null if nothing reaches the cells
  const bool* reset = nullptr;
  T *out = nullptr, *cells = nullptr, *gates = nullptr;
  T *d_gi = nullptr, *d_h0 = nullptr, *d_c0 = nullptr, *d_w = nullptr, *d_b = nullptr;
};

template <class T>
using LstmScanKernels = GatedKernels<LstmScanJob<T>, T>;

}  // namespace memsuite
