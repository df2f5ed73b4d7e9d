// The map from a narrow input: forward, and the gradients of the weight and the bias.
#pragma once

#include "common/narrow.h"
#include "common/offer.h"
#include "narrow_linear/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// y = bias + x W^T for rows [first, last), where W is [wide, narrow].
template <class T>
void narrow_linear(const NarrowLinearJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const NarrowBlock<T> block{job.narrow, job.wide, job.bias};
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    widen_block<T>(block, packed, job.x + n * job.narrow, job.y + n * job.wide, count);
  }
}

// The gradients of W, transposed [narrow, wide], and of the bias [wide], summed over rows [first, last).
template <class T>
void narrow_linear_backward(const NarrowLinearJob<T>& job, T* d_w, T* d_b, int64_t first, int64_t last) {
  const int64_t wide = job.wide, width = job.narrow;
  Scratch<T> columns(kOuterDepth * round_up<2 * Simd<T>::lanes>(wide)), numbers(kOuterDepth * kOuterRows);
  Scratch<T> ignored(width + kOuterRows), extended(kRows * (width + 1)), sums((width + 1) * wide);
  RowsOf<T> rows;
  memset(sums.data, 0, sizeof(T) * (width + 1) * wide);
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    for (int64_t i = 0; i < count; ++i) {  // with a one beside each row, whose products are the gradient of the bias
      memcpy(extended.data + i * (width + 1), job.x + (n + i) * width, sizeof(T) * width);
      extended.data[i * (width + 1) + width] = 1;
    }
    rows.set(job.grad + n * wide, count, wide);
    outer_block(sums.data, ignored.data, extended.data, rows.at, columns.data, numbers.data, count, width + 1, wide);
  }
  memcpy(d_w, sums.data, sizeof(T) * width * wide);
  memcpy(d_b, sums.data + width * wide, sizeof(T) * wide);
}

template <class T>
struct Offer<NarrowLinearKernels<T>> {
  static constexpr NarrowLinearKernels<T> all() {
    NarrowLinearKernels<T> all{};
    all.forward = narrow_linear<T>;
    all.backward = narrow_linear_backward<T>;
    return all;
  }
};
template const NarrowLinearKernels<float>& offered();
template const NarrowLinearKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
