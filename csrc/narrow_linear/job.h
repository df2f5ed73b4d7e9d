// The arguments of a kernel of the map from a narrow input; see memsuite/ops/fused/narrow_linear.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x is [rows, narrow]; y and grad are [rows, wide].
template <class T>
struct NarrowLinearJob {
  int64_t rows, narrow, wide;
  const T *x = nullptr, *bias = nullptr, *grad = nullptr;
  T* y = nullptr;
};

// Over rows [first, last). The weight comes from a Packed<T>; d_w [narrow, wide] is its gradient, transposed.
template <class T>
struct NarrowLinearKernels {
  void (*forward)(const NarrowLinearJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const NarrowLinearJob<T>&, T* d_w, T* d_b, int64_t first, int64_t last);
};

}  // namespace memsuite
