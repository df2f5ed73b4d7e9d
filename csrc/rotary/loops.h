// Rotation by position: the two halves of the part of each head that turns against each other.
#pragma once

#include "common/offer.h"
#include "rotary/job.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
void rotary(const RotaryJob<T>& job, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row)
    for (int64_t h = 0; h < job.heads; ++h) {
      const T* x = job.x + (row * job.heads + h) * job.width;
      T* y = job.y + (row * job.heads + h) * job.width;
      over<T>(job.half, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> cos = load<F>(job.cos + row * job.half + i, n),
                     sin = splat(job.direction) * load<F>(job.sin + row * job.half + i, n);
        const Vec<T> a = load<F>(x + i, n), b = load<F>(x + job.half + i, n);
        store<F>(y + i, a * cos - b * sin, n);
        store<F>(y + job.half + i, a * sin + b * cos, n);
      });
      memcpy(y + 2 * job.half, x + 2 * job.half, sizeof(T) * (job.width - 2 * job.half));
    }
}

template <class T>
struct Offer<RotaryKernels<T>> {
  static constexpr RotaryKernels<T> all() {
    RotaryKernels<T> all{};
    all.forward = rotary<T>;
    return all;
  }
};
template const RotaryKernels<float>& offered();
template const RotaryKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
