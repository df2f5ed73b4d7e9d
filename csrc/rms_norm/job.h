// The arguments of a kernel of RMSNorm; see memsuite/ops/fused/rms_norm.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x, y, grad and d_x are [rows, width]; gain [width]; scale [rows].
template <class T>
struct RmsNormJob {
  int64_t rows, width;
  T eps = 0;
  const T *x = nullptr, *gain = nullptr, *grad = nullptr;
  T *y = nullptr, *scale = nullptr, *d_x = nullptr;
};

// Over rows [first, last); d_gain [width] gets the sum over them.
template <class T>
struct RmsNormKernels {
  void (*forward)(const RmsNormJob<T>&, int64_t first, int64_t last);
  void (*backward)(const RmsNormJob<T>&, T* d_gain, int64_t first, int64_t last);
};

}  // namespace memsuite
