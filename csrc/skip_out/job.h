// The arguments of a kernel of the output of a Mamba block; see memsuite/ops/fused/skip_out.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// y, u, z and their gradients are [rows, size]; skip [size]; out and grad [rows, width]. A negative eps is no norm.
template <class T>
struct SkipOutJob {
  int64_t rows, size, width;
  T eps;
  const T *y = nullptr, *u = nullptr, *z = nullptr, *skip = nullptr, *grad = nullptr;
  T *out = nullptr, *d_y = nullptr, *d_u = nullptr, *d_z = nullptr;
};

// Over rows [first, last), with the weight as PackedMap<T>. `sums` gets the gradient of the weight [width, size], then
// that of the skip connection [size].
template <class T>
struct SkipOutKernels {
  void (*forward)(const SkipOutJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const SkipOutJob<T>&, const T* packed, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
