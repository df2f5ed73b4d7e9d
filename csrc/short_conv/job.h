// The arguments of a kernel of the short convolution; see memsuite/ops/fused/short_conv.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x, y and their gradients are [steps, batch, size]; buffer [batch, width - 1, size]; taps [width, size]. The tap of
// the present step comes first, and `width` includes it.
template <class T>
struct ShortConvJob {
  int64_t steps, batch, size, width;
  bool silu;  // whether y is silu of the sum
  const T *x = nullptr, *taps = nullptr, *bias = nullptr, *buffer = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *y = nullptr, *d_x = nullptr, *d_buffer = nullptr;
};

// Over environments [first, last). `sums` [width + 1, size] gets the gradients of the taps, then of the bias.
template <class T>
struct ShortConvKernels {
  void (*forward)(const ShortConvJob<T>&, int64_t first, int64_t last);
  void (*backward)(const ShortConvJob<T>&, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
