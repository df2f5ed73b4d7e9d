// The arguments of a kernel of the rotation by position; see memsuite/ops/fused/rotary.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// x and y are [rows, heads, width], of which the first 2 half turn; cos and sin are [rows, half].
template <class T>
struct RotaryJob {
  int64_t heads, width, half;
  T direction;  // 1, or -1 to turn back
  const T *x = nullptr, *cos = nullptr, *sin = nullptr;
  T* y = nullptr;
};

template <class T>
struct RotaryKernels {
  void (*forward)(const RotaryJob<T>&, int64_t first, int64_t last);  // over rows [first, last)
};

}  // namespace memsuite
