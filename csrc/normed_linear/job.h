// The arguments of a kernel of the map of normalised rows; see memsuite/ops/fused/normed_linear.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x and d_x are [rows, wide]; y, plain and grad [rows, narrow]; scale [rows].
template <class T>
struct NormedLinearJob {
  int64_t rows, narrow, wide;
  T eps = 0;
  const T *x = nullptr, *grad = nullptr;
  T *y = nullptr, *plain = nullptr, *scale = nullptr, *d_x = nullptr;
};

// Over rows [first, last). The forward pass reads weights packed for a narrow result, the backward pass those of a
// Packed<T>; d_w is [narrow, wide].
template <class T>
struct NormedLinearKernels {
  void (*forward)(const NormedLinearJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const NormedLinearJob<T>&, const T* packed, T* d_w, int64_t first, int64_t last);
};

}  // namespace memsuite
