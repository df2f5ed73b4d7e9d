// What a kernel of the short convolution is given; see memsuite/ops/fused/short_conv.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x, y and their gradients are [steps, batch, size]; buffer [batch, width - 1, size]; taps [width, size], with the tap
// of the step itself first, which `width` counts too.
template <class T>
struct ShortConvJob {
  int64_t steps, batch, size, width;
  const T *x = nullptr, *taps = nullptr, *bias = nullptr, *buffer = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *y = nullptr, *d_x = nullptr, *d_buffer = nullptr;
};

// Over environments [first, last). `sums` [width + 1, size] gets the gradients of the taps, then that of the bias.
template <class T>
struct ShortConvKernels {
  void (*forward)(const ShortConvJob<T>&, int64_t first, int64_t last);
  void (*backward)(const ShortConvJob<T>&, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
