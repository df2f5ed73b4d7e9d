// The map between wide features, with the function after it; see memsuite/ops/fused/wide_linear.py.
#pragma once

#include "common/offer.h"
#include "common/rows.h"
#include "wide_linear/job.h"

namespace memsuite::MEMSUITE_LEVEL {

template <int Kind, class T>
MEMSUITE_INLINE Vec<T> after_map(Vec<T> x) {
  if constexpr (Kind == kSoftplus) return softplus<T>(x);
  if constexpr (Kind == kEluPlusOne) return x > splat<T>(0) ? x + splat<T>(1) : exp<T>(x);
  return x;
}

// The derivative of the function, from its value.
template <int Kind, class T>
MEMSUITE_INLINE Vec<T> after_map_slope(Vec<T> y) {
  if constexpr (Kind == kSoftplus) return y > splat<T>(kSteep) ? splat<T>(1) : -expm1<T>(-y);
  if constexpr (Kind == kEluPlusOne) return at_most(y, T(1));
  return splat<T>(1);
}

template <class T, int Kind>
void wide_linear(const WideLinearJob<T>& job, const T* packed, int64_t first, int64_t last) {
  Pointers<const T> x, bias;
  Pointers<T> y;
  bias.set(job.bias, kBlockRows, 0);
  for (int64_t n = first; n < last; n += kBlockRows) {
    const int64_t count = last - n < kBlockRows ? last - n : kBlockRows;
    x.set(job.x + n * job.depth, count, job.depth);
    y.set(job.y + n * job.width, count, job.width);
    map_product(Product<T>{x.at, job.depth, job.width, y.at, nullptr, bias.at}, packed, count);
    if constexpr (Kind != kPlain)
      over<T>(count * job.width, [&](auto full, int64_t i, int k) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        store<F>(y.at[0] + i, after_map<Kind, T>(load<F>(y.at[0] + i, k)), k);
      });
  }
}

// Fills d_x of rows [first, last), and sums with the gradients of the weight [width, depth] and of the bias [width].
template <class T, int Kind>
void wide_linear_backward(const WideLinearJob<T>& job, const T* packed, T* sums, int64_t first, int64_t last) {
  const int64_t width = job.width, depth = job.depth;
  T* d_bias = sums + width * depth;
  const OuterSums<T> d_map(sums, width, depth);
  Scratch<T> before(Kind == kPlain ? 0 : kBlockRows * width);
  Pointers<const T> x, grad;
  Pointers<T> d_x;
  memset(d_bias, 0, sizeof(T) * width);
  const auto block = [&](const int64_t* chosen, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      x.at[i] = job.x + chosen[i] * depth;
      d_x.at[i] = job.d_x + chosen[i] * depth;
      grad.at[i] = job.grad + chosen[i] * width;
      T* flow = before.data + i * width;
      over<T>(width, [&](auto full, int64_t j, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        Vec<T> g = load<F>(grad.at[i] + j, n);
        if constexpr (Kind != kPlain) {
          g *= after_map_slope<Kind, T>(load<F>(job.y + chosen[i] * width + j, n));
          store<F>(flow + j, g, n);
        }
        store<F>(d_bias + j, load<F>(d_bias + j, n) + g, n);
      });
      if (Kind != kPlain) grad.at[i] = flow;
    }
    map_product(Product<T>{grad.at, width, depth, d_x.at}, packed, count);
    d_map.add(grad.at, x.at, count);
  };
  over_active(job.grad, width, first, last, block,
              [&](int64_t n) { memset(job.d_x + n * depth, 0, sizeof(T) * depth); });
}

template <class T>
struct Offer<WideLinearKernels<T>> {
  static constexpr WideLinearKernels<T> all() {
    WideLinearKernels<T> all{};
    all.forward[kPlain] = wide_linear<T, kPlain>;
    all.forward[kSoftplus] = wide_linear<T, kSoftplus>;
    all.forward[kEluPlusOne] = wide_linear<T, kEluPlusOne>;
    all.backward[kPlain] = wide_linear_backward<T, kPlain>;
    all.backward[kSoftplus] = wide_linear_backward<T, kSoftplus>;
    all.backward[kEluPlusOne] = wide_linear_backward<T, kEluPlusOne>;
    return all;
  }
};
template const WideLinearKernels<float>& offered();
template const WideLinearKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
