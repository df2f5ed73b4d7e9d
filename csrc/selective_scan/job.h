// The arguments of a kernel of the selective scan; see memsuite/ops/scans/selective_scan.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// u, dt, y, grad and their gradients are [steps, batch, size]; a and d_a [size, states_each]; b and c
// [steps, batch, states_each]; h0, last and grad_last [batch, size, states_each]. `saved` holds the state before each
// block of time, [blocks, batch, states_each, size].
template <class T>
struct SelectiveScanJob {
  int64_t steps, batch, size, states_each, block;
  const T *u = nullptr, *dt = nullptr, *a = nullptr, *b = nullptr, *c = nullptr, *h0 = nullptr;
  const T *grad = nullptr, *grad_last = nullptr;
  const bool* reset = nullptr;
  T *y = nullptr, *saved = nullptr, *last = nullptr;
  T *d_u = nullptr, *d_dt = nullptr, *d_a = nullptr, *d_b = nullptr, *d_c = nullptr, *d_h0 = nullptr;
};

// Over environments [first, last). `sums` [states_each, size] gets the gradient of a, summed over the range.
template <class T>
struct SelectiveScanKernels {
  void (*forward)(const SelectiveScanJob<T>&, int64_t first, int64_t last);
  void (*backward)(const SelectiveScanJob<T>&, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
