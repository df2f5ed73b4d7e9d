// The arguments of a kernel of the map between wide features; see memsuite/ops/fused/wide_linear.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

enum AfterMap { kPlain, kSoftplus, kEluPlusOne };  // as in memsuite/ops/fused/wide_linear.py

// x and d_x are [rows, depth]; y and grad [rows, width].
template <class T>
struct WideLinearJob {
  int64_t rows, depth, width;
  const T *x = nullptr, *bias = nullptr, *grad = nullptr;
  T *y = nullptr, *d_x = nullptr;
};

// Over rows [first, last), with the weight as PackedMap<T>, by kind of the function after the map. `sums` gets the
// gradients of the weight [width, depth] and of the bias [width].
template <class T>
struct WideLinearKernels {
  void (*forward[3])(const WideLinearJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward[3])(const WideLinearJob<T>&, const T* packed, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
