// What a kernel of the LSTM recurrence is given; see memsuite/ops/scans/lstm_scan.py. No torch here.
#pragma once

#include <cstdint>

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

// As GruScanKernels.
template <class T>
struct LstmScanKernels {
  int64_t (*packed_size)(int64_t size);
  void (*pack)(T* packed, const T* weights, const T* biases, int64_t size);
  void (*forward)(const LstmScanJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const LstmScanJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*weights)(const LstmScanJob<T>&, int64_t first, int64_t last);
  int64_t outer_rows;
};

}  // namespace memsuite
