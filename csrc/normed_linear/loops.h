// The map of normalised rows: forward, and the gradients of the rows and the weight.
#pragma once

#include "common/fold.h"
#include "common/narrow.h"
#include "common/offer.h"
#include "normed_linear/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// out[row] = rows[row] * packed, for one vector of columns.
template <class T>
struct Narrowing {
  const T* const* rows;
  const T* packed;
  T* out;  // [kRows][lanes]
  int64_t depth;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    Tile<T, R, 1> sums = {};
    multiply(sums, rows + begin, packed, depth);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) store<true>(out + (begin + r) * L, sums.at[r][0], L);
  }
};

// plain = x W^T, scale = 1 / sqrt(mean(x^2) + eps), out = plain * scale, for rows [first, last); W is [narrow, wide].
template <class T>
void normed_linear(const NormedLinearJob<T>& job, const T* packed, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  Scratch<T> sums(kRows * L);
  RowsOf<T> rows;
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    rows.set(job.x + n * job.wide, count, job.wide);
    for (int64_t i = 0; i < count; ++i) {
      Vec<T> squares{};
      over<T>(job.wide, [&](auto full, int64_t d, int k) __attribute__((always_inline)) {
        const Vec<T> x = load<decltype(full)::value>(rows.at[i] + d, k);
        squares += x * x;
      });
      job.scale[n + i] = 1 / __builtin_sqrt(sum_in_order<T>(squares) / job.wide + job.eps);
    }
    for (int64_t column = 0; column < job.narrow; column += L) {
      const int64_t width = job.narrow - column < L ? job.narrow - column : L;
      over_rows<12>(0, count, Narrowing<T>{rows.at, packed + column * job.wide, sums.data, job.wide});
      for (int64_t i = 0; i < count; ++i) {
        T *plain = job.plain + (n + i) * job.narrow + column, *y = job.y + (n + i) * job.narrow + column;
        for (int64_t a = 0; a < width; ++a) {
          plain[a] = sums.data[i * L + a];
          y[a] = plain[a] * job.scale[n + i];
        }
      }
    }
  }
}

// d_x for rows [first, last), and d_w [narrow, wide] summed over them.
template <class T>
void normed_linear_backward(const NormedLinearJob<T>& job, const T* packed, T* d_w, int64_t first, int64_t last) {
  const int64_t wide = job.wide, width = job.narrow;
  Scratch<T> columns(kOuterDepth * round_up<2 * Simd<T>::lanes>(wide)), numbers(kOuterDepth * kOuterRows);
  Scratch<T> ignored(width + kOuterRows), d_plain(kRows * width), factor(kRows);
  RowsOf<T> rows;
  memset(d_w, 0, sizeof(T) * width * wide);
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    for (int64_t i = 0; i < count; ++i) {
      const T *grad = job.grad + (n + i) * width, *plain = job.plain + (n + i) * width, scale = job.scale[n + i];
      T through = 0;
      for (int64_t a = 0; a < width; ++a) {
        d_plain.data[i * width + a] = grad[a] * scale;
        through += grad[a] * plain[a];
      }
      factor.data[i] = -through * scale * scale * scale / wide;
    }
    const T* x = job.x + n * wide;
    widen_block<T>({width, wide, nullptr, x, factor.data}, packed, d_plain.data, job.d_x + n * wide, count);
    rows.set(x, count, wide);
    outer_block(d_w, ignored.data, d_plain.data, rows.at, columns.data, numbers.data, count, width, wide);
  }
}

template <class T>
struct Offer<NormedLinearKernels<T>> {
  static constexpr NormedLinearKernels<T> all() {
    NormedLinearKernels<T> all{};
    all.forward = normed_linear<T>;
    all.backward = normed_linear_backward<T>;
    return all;
  }
};
template const NormedLinearKernels<float>& offered();
template const NormedLinearKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
