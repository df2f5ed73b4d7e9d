// The arguments of a kernel of the diagonal scan; see memsuite/ops/scans/diagonal_scan.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// Arrays are [steps, batch, size], h0 is [batch, size]. A complex number counts as two in `size`.
template <class T>
struct DiagonalScanJob {
  int64_t steps, batch, size;
  bool constant;  // a is [size]; then d_a is [batch, size], and d_a_total [size] its sum over environments
  bool complex;
  const T *a = nullptr, *x = nullptr, *h0 = nullptr, *states = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *out = nullptr, *d_a = nullptr, *d_a_total = nullptr, *dx = nullptr, *d_h0 = nullptr;
};

// Over environments [first, last); indexed by whether the numbers are complex. The caller computes d_a_total.
template <class T>
struct DiagonalScanKernels {
  void (*forward[2])(const DiagonalScanJob<T>&, int64_t first, int64_t last);
  void (*backward[2])(const DiagonalScanJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
