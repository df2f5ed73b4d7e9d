// The arguments of a kernel of the gated perceptron; see memsuite/ops/fused/gated_mlp.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x, y, grad and d_x are [rows, width]; hidden [rows, 2 inner]; scale [rows].
template <class T>
struct GatedMlpJob {
  int64_t rows, width, inner;
  T eps = 0;
  const T *x = nullptr, *grad = nullptr;
  T *y = nullptr, *hidden = nullptr, *scale = nullptr, *d_x = nullptr;
};

// Over rows [first, last), with both weights as PackedMap<T>. `sums` gets their gradients: up [2 inner, width], then
// down [width, inner].
template <class T>
struct GatedMlpKernels {
  void (*forward)(const GatedMlpJob<T>&, const T* up, const T* down, int64_t first, int64_t last);
  void (*backward)(const GatedMlpJob<T>&, const T* up, const T* down, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
