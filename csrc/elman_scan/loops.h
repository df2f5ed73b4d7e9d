// Elman's recurrence over a sequence, computed like the GRU recurrence in gru_scan/loops.h, with one part for each
// unit.
#pragma once

#include "common/gated_loops.h"
#include "common/offer.h"
#include "elman_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kElmanRows = 12;  // rows of a forward tile, which has one vector of each

template <class T>
struct ElmanStep {
  const ElmanScanJob<T>& job;
  const T* const* rows;  // states before this step, of the rows from `first`
  const T* block;        // packed weights of these units
  int64_t t, first, unit;
  int count;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    Tile<T, R, 1> sums;
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) sums.at[r][0] = load<true>(block, L);
    multiply(sums, rows + (begin - first), block + L, job.size);
#pragma GCC unroll 1
    for (int r = 0; r < R; ++r) {
      const int64_t at = (t * job.batch + begin + r) * job.size + unit;
      if (count == L) {
        store<true>(job.out + at, tanh<T>(load<true>(job.gi + at, L) + sums.at[r][0]), L);
      } else {
        store<false>(job.out + at, tanh<T>(load<false>(job.gi + at, count) + sums.at[r][0]), count);
      }
    }
  }
};

template <class T>
void elman_forward(const ElmanScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  gated_walk<1, kElmanRows, ElmanStep<T>>(job, packed, first, last);
}

// Fills d_gi and d_h0 of rows [first, last) of the batch, from the last step to the first.
template <class T>
void elman_backward(const ElmanScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const int64_t size = job.size;
  T* back = job.d_h0 + first * size;
  Scratch<const T*> rows(last - first);
  memset(back, 0, sizeof(T) * (last - first) * size);
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = (t * job.batch + b) * size;
      const T* later = back + (b - first) * size;
      rows.data[b - first] = job.d_gi + row;
      over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> h = load<F>(job.states + row + i, n);
        const Vec<T> d_h = load<F>(job.grad + row + i, n) + load<F>(later + i, n);
        store<F>(job.d_gi + row + i, d_h * (splat<T>(1) - h * h), n);
      });
    }
    gated_flow<1>(rows.data, packed, back, last - first, size);
    gated_erase(job, back, t, first, last);
  }
}

template <class T>
struct Offer<ElmanScanKernels<T>> {
  static constexpr ElmanScanKernels<T> all() {
    using Job = ElmanScanJob<T>;
    return gated_kernels<1, Job, T>(elman_forward<T>, elman_backward<T>, gated_weights<1, Job>);
  }
};
template const ElmanScanKernels<float>& offered();
template const ElmanScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
