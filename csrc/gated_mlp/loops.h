// The gated perceptron, with the norm before it and the stream to which it is added; see
// memsuite/ops/fused/gated_mlp.py.
#pragma once

#include "common/offer.h"
#include "common/rows.h"
#include "gated_mlp/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// act = silu(gate) * top, where hidden is [gate, top].
template <class T>
MEMSUITE_INLINE void swiglu(T* act, const T* hidden, int64_t inner) {
  over<T>(inner, [&](auto full, int64_t j, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> gate = load<F>(hidden + j, n);
    store<F>(act + j, gate * sigmoid<T>(gate) * load<F>(hidden + inner + j, n), n);
  });
}

// Recomputes act, and writes `scale` times the gradient of hidden into d_hidden. Returns the sum of that gradient
// (without the scale) times hidden.
template <class T>
MEMSUITE_INLINE T swiglu_back(T* act, T* d_hidden, const T* hidden, const T* d_act, T scale, int64_t inner) {
  Vec<T> through{};
  over<T>(inner, [&](auto full, int64_t j, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> gate = load<F>(hidden + j, n), top = load<F>(hidden + inner + j, n), flow = load<F>(d_act + j, n);
    const Vec<T> sigma = sigmoid<T>(gate), silu = gate * sigma;
    const Vec<T> d_top = flow * silu;
    const Vec<T> d_gate = flow * top * (sigma + silu * (splat<T>(1) - sigma));
    store<F>(act + j, silu * top, n);
    store<F>(d_hidden + j, splat(scale) * d_gate, n);
    store<F>(d_hidden + inner + j, splat(scale) * d_top, n);
    through += d_gate * gate + d_top * top;
  });
  return sum_of_lanes<T>(through);
}

// Rows [first, last): y = x + down(swiglu(hidden)), hidden = scale * up(x).
template <class T>
void gated_mlp(const GatedMlpJob<T>& job, const T* up, const T* down, int64_t first, int64_t last) {
  const int64_t width = job.width, inner = job.inner;
  Scratch<T> made(kBlockRows * inner);
  Pointers<const T> x, act;
  Pointers<T> hidden, y;
  act.set(made.data, kBlockRows, inner);
  for (int64_t n = first; n < last; n += kBlockRows) {
    const int64_t count = last - n < kBlockRows ? last - n : kBlockRows;
    x.set(job.x + n * width, count, width);
    hidden.set(job.hidden + n * 2 * inner, count, 2 * inner);
    y.set(job.y + n * width, count, width);
    for (int64_t i = 0; i < count; ++i) job.scale[n + i] = norm_scale(x.at[i], width, job.eps);
    map_product(Product<T>{x.at, width, 2 * inner, hidden.at, job.scale + n}, up, count);
    for (int64_t i = 0; i < count; ++i) swiglu(made.data + i * inner, hidden.at[i], inner);
    map_product(Product<T>{act.at, inner, width, y.at, nullptr, x.at}, down, count);
  }
}

// Fills d_x of rows [first, last), and sums with the gradients of up [2 inner, width] and down [width, inner].
template <class T>
void gated_mlp_backward(const GatedMlpJob<T>& job, const T* up, const T* down, T* sums, int64_t first, int64_t last) {
  const int64_t width = job.width, inner = job.inner;
  Scratch<T> flow(kBlockRows * inner), made(kBlockRows * inner), d_hidden(kBlockRows * 2 * inner), factor(kBlockRows);
  const OuterSums<T> d_up(sums, 2 * inner, width), d_down(sums + 2 * inner * width, width, inner);
  Pointers<const T> x, grad, act, d_row;
  Pointers<T> d_act, d_x;
  act.set(made.data, kBlockRows, inner);
  d_row.set(d_hidden.data, kBlockRows, 2 * inner);
  d_act.set(flow.data, kBlockRows, inner);
  const auto block = [&](const int64_t* chosen, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      x.at[i] = job.x + chosen[i] * width;
      grad.at[i] = job.grad + chosen[i] * width;
      d_x.at[i] = job.d_x + chosen[i] * width;
    }
    map_product(Product<T>{grad.at, width, inner, d_act.at}, down, count);
    for (int64_t i = 0; i < count; ++i) {
      const T scale = job.scale[chosen[i]], *hidden = job.hidden + chosen[i] * 2 * inner;
      const T through =
          swiglu_back(made.data + i * inner, d_hidden.data + i * 2 * inner, hidden, d_act.at[i], scale, inner);
      factor.data[i] = -through * scale * scale / width;
    }
    d_down.add(grad.at, act.at, count);
    d_up.add(d_row.at, x.at, count);
    map_product(Product<T>{d_row.at, 2 * inner, width, d_x.at, nullptr, grad.at, x.at, factor.data}, up, count);
  };
  over_active(job.grad, width, first, last, block,
              [&](int64_t n) { memset(job.d_x + n * width, 0, sizeof(T) * width); });
}

template <class T>
struct Offer<GatedMlpKernels<T>> {
  static constexpr GatedMlpKernels<T> all() {
    GatedMlpKernels<T> all{};
    all.forward = gated_mlp<T>;
    all.backward = gated_mlp_backward<T>;
    return all;
  }
};
template const GatedMlpKernels<float>& offered();
template const GatedMlpKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
