// The arguments of a kernel of attention to a window; see memsuite/ops/fused/window_attention.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// q, y, grad and d_q are [steps, batch, heads, size]; k, v and their gradients [before + steps, batch, heads, size];
// age [steps, batch], checked; total [steps, batch, heads], the logarithm of each softmax's denominator. The bias,
// which may be null, is added to the scores of a key, [before + steps, batch, heads]; it is a sum over many steps, of
// which only differences count, so it is in double precision whatever T is. relative_q, which may be null, like q, are
// queries whose products with relative_k [ages, heads, size] at the age of a key are added to its score, too; the
// gradient of relative_k is that of each row of the batch, [batch, ages, heads, size].
template <class T>
struct WindowAttentionJob {
  int64_t steps, before, batch, heads, size;
  const T *q = nullptr, *k = nullptr, *v = nullptr, *grad = nullptr;
  const double* bias = nullptr;
  const int64_t* age = nullptr;
  T *y = nullptr, *total = nullptr, *d_q = nullptr, *d_k = nullptr, *d_v = nullptr;
  double* d_bias = nullptr;
  int64_t ages = 0;
  const T *relative_q = nullptr, *relative_k = nullptr;
  T *d_relative_q = nullptr, *d_relative_k = nullptr;
};

// Over heads [first, last) of batch x heads.
template <class T>
struct WindowAttentionKernels {
  void (*forward)(const WindowAttentionJob<T>&, int64_t first, int64_t last);
  void (*backward)(const WindowAttentionJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
