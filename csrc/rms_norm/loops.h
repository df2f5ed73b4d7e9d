// RMSNorm of rows; see memsuite/ops/fused/rms_norm.py.
#pragma once

#include "common/offer.h"
#include "common/rows.h"
#include "rms_norm/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// y = gain * x / rms(x) for rows [first, last).
template <class T>
void rms_norm(const RmsNormJob<T>& job, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; ++n) {
    const T* x = job.x + n * job.width;
    const T scale = job.scale[n] = norm_scale(x, job.width, job.eps);
    over<T>(job.width, [&](auto full, int64_t i, int k) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      store<F>(job.y + n * job.width + i, splat(scale) * load<F>(x + i, k) * load<F>(job.gain + i, k), k);
    });
  }
}

// d_x of rows [first, last), and the gain's gradient [width] summed over them.
template <class T>
void rms_norm_backward(const RmsNormJob<T>& job, T* d_gain, int64_t first, int64_t last) {
  memset(d_gain, 0, sizeof(T) * job.width);
  for (int64_t n = first; n < last; ++n) {
    const T *x = job.x + n * job.width, *grad = job.grad + n * job.width, scale = job.scale[n];
    Vec<T> sum{};
    over<T>(job.width, [&](auto full, int64_t i, int k) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      const Vec<T> product = load<F>(grad + i, k) * load<F>(x + i, k);
      sum += product * load<F>(job.gain + i, k);
      store<F>(d_gain + i, load<F>(d_gain + i, k) + splat(scale) * product, k);
    });
    const T through = sum_of_lanes<T>(sum) * scale * scale * scale / job.width;
    over<T>(job.width, [&](auto full, int64_t i, int k) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      const Vec<T> d_unit = load<F>(grad + i, k) * load<F>(job.gain + i, k);
      store<F>(job.d_x + n * job.width + i, splat(scale) * d_unit - splat(through) * load<F>(x + i, k), k);
    });
  }
}

template <class T>
struct Offer<RmsNormKernels<T>> {
  static constexpr RmsNormKernels<T> all() {
    RmsNormKernels<T> all{};
    all.forward = rms_norm<T>;
    all.backward = rms_norm_backward<T>;
    return all;
  }
};
template const RmsNormKernels<float>& offered();
template const RmsNormKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
