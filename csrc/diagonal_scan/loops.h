// The diagonal scan: every number of the state is a separate recurrence.
//
// It reads and writes each number once, so memory traffic determines its cost. The loop over time is outside and the
// loop over environments and columns inside. Reads and writes are therefore contiguous, and the state before a step is
// still in the first-level cache.
#pragma once

#include "common/offer.h"
#include "common/scan.h"
#include "diagonal_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// Products of vectors of real numbers, or of complex numbers that are stored as pairs.
template <class T, bool Complex>
struct Pairs {
  // a * b, or conj(a) * b.
  template <bool Conjugate>
  static MEMSUITE_INLINE Vec<T> times(Vec<T> a, Vec<T> b) {
    if constexpr (!Complex) {
      return a * b;
    } else {
      constexpr int L = Simd<T>::lanes;
      Int<T> even, odd, swap;
      Vec<T> sign;
#pragma GCC unroll 16
      for (int i = 0; i < L; i += 2) {
        even[i] = even[i + 1] = swap[i + 1] = i;
        odd[i] = odd[i + 1] = swap[i] = i + 1;
        sign[i] = Conjugate ? 1 : -1;
        sign[i + 1] = Conjugate ? -1 : 1;
      }
      const Vec<T> real = __builtin_shuffle(a, even), imaginary = __builtin_shuffle(a, odd) * sign;
      return real * b + imaginary * __builtin_shuffle(b, swap);
    }
  }
};

template <class T>
MEMSUITE_INLINE const T* decay(const DiagonalScanJob<T>& job, int64_t row) {
  return job.constant ? job.a : job.a + row * job.size;
}

template <class T, bool Complex>
void diagonal_forward(const DiagonalScanJob<T>& job, int64_t first, int64_t last) {
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = t * job.batch + b;
      const T *a = decay(job, row), *x = job.x + row * job.size, *h = before(job, job.out, t, b);
      T* out = job.out + row * job.size;
      over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> old = h == nullptr ? Vec<T>{} : load<F>(h + i, n);
        store<F>(out + i, load<F>(x + i, n) + Pairs<T, Complex>::template times<false>(load<F>(a + i, n), old), n);
      });
    }
  }
}

// Fills dx, d_h0 and d_a. For a constant decay d_a has one row per environment, which the caller adds up in order.
template <class T, bool Complex>
void diagonal_backward(const DiagonalScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t size = job.size;
  memset(job.d_h0 + first * size, 0, sizeof(T) * (last - first) * size);
  if (job.constant) memset(job.d_a + first * size, 0, sizeof(T) * (last - first) * size);
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = t * job.batch + b;
      const T *a = decay(job, row), *h = before(job, job.states, t, b), *grad = job.grad + row * size;
      T *dx = job.dx + row * size, *back = job.d_h0 + b * size;
      T* d_a = job.d_a + (job.constant ? b : row) * size;
      over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        using P = Pairs<T, Complex>;
        const Vec<T> d = load<F>(grad + i, n) + load<F>(back + i, n);
        const Vec<T> old = h == nullptr ? Vec<T>{} : load<F>(h + i, n);
        store<F>(dx + i, d, n);
        const Vec<T> d_decay = P::template times<true>(old, d);
        store<F>(d_a + i, job.constant ? load<F>(d_a + i, n) + d_decay : d_decay, n);
        store<F>(back + i, h == nullptr ? Vec<T>{} : P::template times<true>(load<F>(a + i, n), d), n);
      });
    }
  }
}

template <class T>
struct Offer<DiagonalScanKernels<T>> {
  static constexpr DiagonalScanKernels<T> all() {
    DiagonalScanKernels<T> all{};
    all.forward[0] = diagonal_forward<T, false>;
    all.forward[1] = diagonal_forward<T, true>;
    all.backward[0] = diagonal_backward<T, false>;
    all.backward[1] = diagonal_backward<T, true>;
    return all;
  }
};
template const DiagonalScanKernels<float>& offered();
template const DiagonalScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
