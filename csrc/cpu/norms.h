// RMSNorm of rows, and a read-out of heads: norm, gate and map. See memsuite/ops/rms_norm.py and gated_out.py.
#pragma once

#include "rows.h"

namespace memsuite::MEMSUITE_LEVEL {

// y = gain * x / rms(x) for rows [first, last).
template <class T>
void rms_norm(const NormJob<T>& job, int64_t first, int64_t last) {
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
void rms_norm_backward(const NormJob<T>& job, T* d_gain, int64_t first, int64_t last) {
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
      store<F>(job.y + n * job.width + i, splat(scale) * d_unit - splat(through) * load<F>(x + i, k), k);
    });
  }
}

// What a gate lets through, and its slope.
template <int Kind, class T>
struct Gate {
  Vec<T> open, slope;
  explicit MEMSUITE_INLINE Gate(Vec<T> x) {
    const Vec<T> sigma = sigmoid<T>(x), rest = splat<T>(1) - sigma;
    open = Kind == kSilu ? x * sigma : sigma;
    slope = Kind == kSilu ? sigma + x * sigma * rest : sigma * rest;
  }
};

// act = y / rms(y) * gate, head by head.
template <int Kind, class T>
void open_row(const OutJob<T>& job, int64_t row, T* act) {
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

// The same again, and the gradients of y and the gate from that of act.
template <int Kind, class T>
void open_row_back(const OutJob<T>& job, int64_t row, const T* d_act, T* act) {
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
        store<F>(job.d_gate + at + i, flow * unit * gate.slope, n);
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
void gated_out(const OutJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const int64_t joined = job.heads * job.size;
  Scratch<T> made(kBlockRows * joined);
  Pointers<const T> act;
  Pointers<T> out;
  act.set(made.data, kBlockRows, joined);
  for (int64_t n = first; n < last; n += kBlockRows) {
    const int64_t count = last - n < kBlockRows ? last - n : kBlockRows;
    out.set(job.out + n * job.width, count, job.width);
    for (int64_t i = 0; i < count; ++i) open_row<Kind>(job, n + i, made.data + i * joined);
    product(Product<T>{act.at, joined, job.width, out.at}, packed, count);
  }
}

// The gradients of y and the gate for rows [first, last), and the map's [width, heads size] summed over them.
template <class T, int Kind>
void gated_out_backward(const OutJob<T>& job, const T* packed, T* sums, int64_t first, int64_t last) {
  const int64_t joined = job.heads * job.size;
  Scratch<T> made(kBlockRows * joined), flow(kBlockRows * joined);
  const OuterSums<T> d_map(sums, job.width, joined);
  Pointers<const T> grad, act;
  Pointers<T> d_act;
  act.set(made.data, kBlockRows, joined);
  d_act.set(flow.data, kBlockRows, joined);
  const auto block = [&](const int64_t* chosen, int64_t count) {
    for (int64_t i = 0; i < count; ++i) grad.at[i] = job.grad + chosen[i] * job.width;
    product(Product<T>{grad.at, job.width, joined, d_act.at}, packed, count);
    for (int64_t i = 0; i < count; ++i) open_row_back<Kind>(job, chosen[i], d_act.at[i], made.data + i * joined);
    d_map.add(grad.at, act.at, count);
  };
  over_active(job.grad, job.width, first, last, block, [&](int64_t n) {
    memset(job.d_y + n * joined, 0, sizeof(T) * joined);
    if constexpr (Kind != kNone) memset(job.d_gate + n * joined, 0, sizeof(T) * joined);
  });
}

}  // namespace memsuite::MEMSUITE_LEVEL
