// The output map of heads: norm, gate and linear map; see memsuite/ops/fused/gated_out.py.
#pragma once

#include "common/offer.h"
#include "common/rows.h"
#include "gated_out/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// The value of a gate, and its derivative.
template <int Kind, class T>
struct Gate {
  Vec<T> open, derivative;
  explicit MEMSUITE_INLINE Gate(Vec<T> x) {
    const Vec<T> sigma = sigmoid<T>(x), rest = splat<T>(1) - sigma;
    open = Kind == kSilu ? x * sigma : sigma;
    derivative = Kind == kSilu ? sigma + x * sigma * rest : sigma * rest;
  }
};

// act = y / rms(y) * gate, head by head.
template <int Kind, class T>
void open_row(const GatedOutJob<T>& job, int64_t row, T* act) {
  for (int64_t h = 0; h < job.heads; ++h) {
    const int64_t at = (row * job.heads + h) * job.size;
    const T scale = norm_scale(job.y + at, job.size, job.eps);
    over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      Vec<T> unit = splat(scale) * load<F>(job.y + at + i, n);
      if constexpr (Kind != kNone) {
        const Gate<Kind, T> gate(load<F>(job.gate + at + i, n));
        unit = unit * gate.open;
      }
      store<F>(act + h * job.size + i, unit, n);
    });
  }
}

// Recomputes act, and the gradients of y and of the gate from the gradient of act.
template <int Kind, class T>
void open_row_back(const GatedOutJob<T>& job, int64_t row, const T* d_act, T* act) {
  for (int64_t h = 0; h < job.heads; ++h) {
    const int64_t at = (row * job.heads + h) * job.size, in = h * job.size;
    const T scale = norm_scale(job.y + at, job.size, job.eps);
    Vec<T> sum{};
    over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      const Vec<T> unit = splat(scale) * load<F>(job.y + at + i, n), flow = load<F>(d_act + in + i, n);
      Vec<T> d_unit = flow, out = unit;
      if constexpr (Kind != kNone) {
        const Gate<Kind, T> gate(load<F>(job.gate + at + i, n));
        d_unit = flow * gate.open, out = unit * gate.open;
        store<F>(job.d_gate + at + i, flow * unit * gate.derivative, n);
      }
      sum += d_unit * unit;
      store<F>(job.d_y + at + i, d_unit, n);
      store<F>(act + in + i, out, n);
    });
    const T through = sum_of_lanes<T>(sum) / job.size;
    over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      const Vec<T> unit = splat(scale) * load<F>(job.y + at + i, n);
      store<F>(job.d_y + at + i, splat(scale) * (load<F>(job.d_y + at + i, n) - splat(through) * unit), n);
    });
  }
}

template <class T, int Kind>
void gated_out(const GatedOutJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const int64_t joined = job.heads * job.size;
  Scratch<T> made(kBlockRows * joined);
  Pointers<const T> act;
  Pointers<T> out;
  act.set(made.data, kBlockRows, joined);
  for (int64_t n = first; n < last; n += kBlockRows) {
    const int64_t count = last - n < kBlockRows ? last - n : kBlockRows;
    out.set(job.out + n * job.width, count, job.width);
    for (int64_t i = 0; i < count; ++i) open_row<Kind>(job, n + i, made.data + i * joined);
    map_product(Product<T>{act.at, joined, job.width, out.at}, packed, count);
  }
}

// Fills the gradients of y and of the gate for rows [first, last), and sums with the gradient of the map, [width, heads
// size].
template <class T, int Kind>
void gated_out_backward(const GatedOutJob<T>& job, const T* packed, T* sums, int64_t first, int64_t last) {
  const int64_t joined = job.heads * job.size;
  Scratch<T> made(kBlockRows * joined), flow(kBlockRows * joined);
  const OuterSums<T> d_map(sums, job.width, joined);
  Pointers<const T> grad, act;
  Pointers<T> d_act;
  act.set(made.data, kBlockRows, joined);
  d_act.set(flow.data, kBlockRows, joined);
  const auto block = [&](const int64_t* chosen, int64_t count) {
    for (int64_t i = 0; i < count; ++i) grad.at[i] = job.grad + chosen[i] * job.width;
    map_product(Product<T>{grad.at, job.width, joined, d_act.at}, packed, count);
    for (int64_t i = 0; i < count; ++i) open_row_back<Kind>(job, chosen[i], d_act.at[i], made.data + i * joined);
    d_map.add(grad.at, act.at, count);
  };
  over_active(job.grad, job.width, first, last, block, [&](int64_t n) {
    memset(job.d_y + n * joined, 0, sizeof(T) * joined);
    if constexpr (Kind != kNone) memset(job.d_gate + n * joined, 0, sizeof(T) * joined);
  });
}

template <class T>
struct Offer<GatedOutKernels<T>> {
  static constexpr GatedOutKernels<T> all() {
    GatedOutKernels<T> all{};
    all.forward[kNone] = gated_out<T, kNone>;
    all.forward[kSilu] = gated_out<T, kSilu>;
    all.forward[kSigmoid] = gated_out<T, kSigmoid>;
    all.backward[kNone] = gated_out_backward<T, kNone>;
    all.backward[kSilu] = gated_out_backward<T, kSilu>;
    all.backward[kSigmoid] = gated_out_backward<T, kSigmoid>;
    return all;
  }
};
template const GatedOutKernels<float>& offered();
template const GatedOutKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
