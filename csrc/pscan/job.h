// The arguments of a kernel of the pseudo-mamba scan; see memsuite/ops/scans/pscan.py. No torch here.
//
// A job holds plain pointers to contiguous, time-major arrays: [steps, batch, size] unless stated otherwise.
#pragma once

#include <cstdint>

namespace memsuite {

template <class T>
struct PscanJob {
  int64_t steps, batch, size;
  const T *x = nullptr, *h0 = nullptr, *states = nullptr, *grad = nullptr;  // h0 [batch, size]
  const bool* reset = nullptr;                                              // [steps, batch]
  T *out = nullptr, *dx = nullptr, *d_h0 = nullptr;
};

// The loops for one instruction set, over environments [first, last), so that the caller can divide them among threads.
template <class T>
struct PscanKernels {
  void (*forward)(const PscanJob<T>&, int64_t first, int64_t last);
  void (*backward)(const PscanJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
