// The output of a Mamba block: skip connection, gate, norm and linear map; see memsuite/ops/fused/skip_out.py.
#pragma once

#include "common/offer.h"
#include "common/rows.h"
#include "skip_out/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// act = (y + skip u) silu(z) of one row; returns the factor that normalises it, 1 without a norm.
template <class T>
T skip_row(const SkipOutJob<T>& job, int64_t row, T* act) {
  const int64_t at = row * job.size;
  over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> z = load<F>(job.z + at + i, n);
    const Vec<T> total = load<F>(job.y + at + i, n) + load<F>(job.skip + i, n) * load<F>(job.u + at + i, n);
    store<F>(act + i, total * (z * sigmoid<T>(z)), n);
  });
  return job.eps < 0 ? T(1) : norm_scale(act, job.size, job.eps);
}

// The gradients of one row from that of its normalised act, which `act` holds; d_skip adds up over rows.
template <class T>
void skip_row_back(const SkipOutJob<T>& job, int64_t row, const T* d_act, const T* act, T scale, T* d_skip) {
  const int64_t at = row * job.size;
  const T through = job.eps < 0 ? T(0) : sum_over(d_act, act, job.size) / job.size;
  over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> z = load<F>(job.z + at + i, n), u = load<F>(job.u + at + i, n), skip = load<F>(job.skip + i, n);
    const Vec<T> total = load<F>(job.y + at + i, n) + skip * u, sigma = sigmoid<T>(z), gate = z * sigma;
    const Vec<T> d_made = splat(scale) * (load<F>(d_act + i, n) - splat(through) * load<F>(act + i, n));
    const Vec<T> d_total = d_made * gate;
    store<F>(job.d_y + at + i, d_total, n);
    store<F>(job.d_u + at + i, d_total * skip, n);
    store<F>(job.d_z + at + i, d_made * total * (sigma + gate * (splat<T>(1) - sigma)), n);
    store<F>(d_skip + i, load<F>(d_skip + i, n) + d_total * u, n);
  });
}

template <class T>
void skip_out(const SkipOutJob<T>& job, const T* packed, int64_t first, int64_t last) {
  Scratch<T> made(kBlockRows * job.size), scale(kBlockRows);
  Pointers<const T> act;
  Pointers<T> out;
  act.set(made.data, kBlockRows, job.size);
  for (int64_t n = first; n < last; n += kBlockRows) {
    const int64_t count = last - n < kBlockRows ? last - n : kBlockRows;
    out.set(job.out + n * job.width, count, job.width);
    for (int64_t i = 0; i < count; ++i) scale.data[i] = skip_row(job, n + i, made.data + i * job.size);
    map_product(Product<T>{act.at, job.size, job.width, out.at, scale.data}, packed, count);
  }
}

// Fills the gradients of y, u and z for rows [first, last), and sums.
template <class T>
void skip_out_backward(const SkipOutJob<T>& job, const T* packed, T* sums, int64_t first, int64_t last) {
  const int64_t size = job.size;
  T* d_skip = sums + job.width * size;
  Scratch<T> made(kBlockRows * size), flow(kBlockRows * size), scale(kBlockRows);
  const OuterSums<T> d_map(sums, job.width, size);
  Pointers<const T> grad, act;
  Pointers<T> d_act;
  memset(d_skip, 0, sizeof(T) * size);
  act.set(made.data, kBlockRows, size);
  d_act.set(flow.data, kBlockRows, size);
  const auto block = [&](const int64_t* chosen, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      T* row = made.data + i * size;
      grad.at[i] = job.grad + chosen[i] * job.width;
      scale.data[i] = skip_row(job, chosen[i], row);
      scale_row(row, scale.data[i], size);
    }
    map_product(Product<T>{grad.at, job.width, size, d_act.at}, packed, count);
    for (int64_t i = 0; i < count; ++i) skip_row_back(job, chosen[i], d_act.at[i], act.at[i], scale.data[i], d_skip);
    d_map.add(grad.at, act.at, count);
  };
  over_active(job.grad, job.width, first, last, block, [&](int64_t n) {
    for (T* to : {job.d_y, job.d_u, job.d_z}) memset(to + n * size, 0, sizeof(T) * size);
  });
}

template <class T>
struct Offer<SkipOutKernels<T>> {
  static constexpr SkipOutKernels<T> all() {
    SkipOutKernels<T> all{};
    all.forward = skip_out<T>;
    all.backward = skip_out_backward<T>;
    return all;
  }
};
template const SkipOutKernels<float>& offered();
template const SkipOutKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
