// Recurrences without recurrent weights: every number of the state goes its own way.
//
// They read and write each number once, so memory is what they cost. Time is outside and the columns of a range of
// environments inside: reads and writes are contiguous and the state before is still in the first-level cache.
#pragma once

#include "simd.h"

namespace memsuite::MEMSUITE_LEVEL {

// h_t = tanh(x_t + keep_t h_{t-1}) for rows [first, last).
template <class T>
void pscan_forward(const PscanJob<T>& job, int64_t first, int64_t last) {
  const int64_t steps = job.steps, batch = job.batch, size = job.size;
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = (t * batch + b) * size;
      const T *x = job.x + row, *h = before(job, job.out, t, b);
      T* out = job.out + row;
      over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> old = h == nullptr ? Vec<T>{} : load<F>(h + i, n);
        store<F>(out + i, tanh<T>(load<F>(x + i, n) + old), n);
      });
    }
  }
}

// dx and, as its last value, dh0. back is the gradient that the step after sends, erased by its reset.
template <class T>
void pscan_backward(const PscanJob<T>& job, int64_t first, int64_t last) {
  const int64_t steps = job.steps, batch = job.batch, size = job.size;
  memset(job.d_h0 + first * size, 0, sizeof(T) * (last - first) * size);
  for (int64_t t = steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = (t * batch + b) * size;
      const bool erased = job.reset[t * batch + b];
      const T *grad = job.grad + row, *states = job.states + row;
      T *dx = job.dx + row, *back = job.d_h0 + b * size;
      over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> h = load<F>(states + i, n);
        const Vec<T> d = (load<F>(grad + i, n) + load<F>(back + i, n)) * (splat<T>(1) - h * h);
        store<F>(dx + i, d, n);
        store<F>(back + i, erased ? Vec<T>{} : d, n);
      });
    }
  }
}

// One vector of numbers: real, or complex as pairs.
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
MEMSUITE_INLINE const T* decay(const DiagonalJob<T>& job, int64_t row) {
  return job.constant ? job.a : job.a + row * job.size;
}

template <class T, bool Complex>
void diagonal_forward(const DiagonalJob<T>& job, int64_t first, int64_t last) {
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

// dx, d_h0, and d_a: for a constant decay one row of d_a for each environment, which the caller adds up in order.
template <class T, bool Complex>
void diagonal_backward(const DiagonalJob<T>& job, int64_t first, int64_t last) {
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
        const Vec<T> slope = P::template times<true>(old, d);
        store<F>(d_a + i, job.constant ? load<F>(d_a + i, n) + slope : slope, n);
        store<F>(back + i, h == nullptr ? Vec<T>{} : P::template times<true>(load<F>(a + i, n), d), n);
      });
    }
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
