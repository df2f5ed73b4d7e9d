// The pseudo-mamba scan. As in diagonal_scan/loops.h, memory traffic determines its cost.
#pragma once

#include "common/offer.h"
#include "common/scan.h"
#include "pscan/job.h"

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

// Fills dx and d_h0. During the walk, d_h0 holds the gradient from the next step, erased by its reset; the last value
// is the gradient of h0.
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

template <class T>
struct Offer<PscanKernels<T>> {
  static constexpr PscanKernels<T> all() {
    PscanKernels<T> all{};
    all.forward = pscan_forward<T>;
    all.backward = pscan_backward<T>;
    return all;
  }
};
template const PscanKernels<float>& offered();
template const PscanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
