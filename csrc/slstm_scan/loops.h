// The sLSTM recurrence over a sequence, computed like the GRU recurrence in gru_scan/loops.h.
#pragma once

#include "common/gated_loops.h"
#include "common/offer.h"
#include "slstm_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kSlstmRows = kAccumulators / 4;  // rows of a forward tile, which has four gates

// log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|)).
template <class T>
MEMSUITE_INLINE Vec<T> log_sigmoid(Vec<T> x) {
  return at_most(x, T(0)) - log1p_of_fraction<T>(exp<T>(x < Vec<T>{} ? x : -x));
}

// A part of the state before step t of row b, given what it was first and after each step; null if a reset erased it.
template <class T>
MEMSUITE_INLINE const T* slstm_before(const SlstmScanJob<T>& job, const T* begin, const T* after, int64_t t,
                                      int64_t b) {
  if (job.reset[t * job.batch + b]) return nullptr;
  return t == 0 ? begin + b * job.size : after + ((t - 1) * job.batch + b) * job.size;
}

template <bool Full, class T>
MEMSUITE_INLINE Vec<T> load_or_zero(const T* row, int64_t i, int n) {
  return row == nullptr ? Vec<T>{} : load<Full>(row + i, n);
}

template <class T>
struct SlstmStep {
  const SlstmScanJob<T>& job;
  const T* const* rows;  // h before this step, of the rows from `first`
  const T* block;        // packed weights of these units
  int64_t t, first, unit;
  int count;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    Tile<T, R, 4> sums;
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) sums.at[r][g] = load<true>(block + g * L, L);
    multiply(sums, rows + (begin - first), block + 4 * L, job.size);
#pragma GCC unroll 1
    for (int r = 0; r < R; ++r) count == L ? gates<true>(sums.at[r], begin + r) : gates<false>(sums.at[r], begin + r);
  }

  // The gates and the new state of one row from its products.
  template <bool Full>
  MEMSUITE_INLINE void gates(const Vec<T>* sums, int64_t b) const {
    const int64_t size = job.size, row = t * job.batch + b, at = row * size + unit;
    const T* gi = job.gi + row * 4 * size + unit;
    T* to = job.gates + row * 5 * size + unit;
    const Vec<T> old_c = load_or_zero<Full>(slstm_before(job, job.c0, job.cells, t, b), unit, count);
    const Vec<T> old_n = load_or_zero<Full>(slstm_before(job, job.n0, job.totals, t, b), unit, count);
    const Vec<T> old_m = load_or_zero<Full>(slstm_before(job, job.m0, job.peaks, t, b), unit, count);
    const Vec<T> a_i = load<Full>(gi, count) + sums[0], a_f = load<Full>(gi + size, count) + sums[1];
    const Vec<T> made = tanh<T>(load<Full>(gi + 2 * size, count) + sums[2]);
    const Vec<T> out = sigmoid<T>(load<Full>(gi + 3 * size, count) + sums[3]);
    const Vec<T> kept = log_sigmoid<T>(a_f) + old_m;
    const auto fresh = old_n == Vec<T>{};  // nothing was written yet, so this input alone counts
    const Vec<T> peak = fresh ? a_i : (kept < a_i ? a_i : kept);
    const Vec<T> in = exp<T>(a_i - peak);
    const Vec<T> forget = fresh ? Vec<T>{} : exp<T>(kept - peak);
    const Vec<T> cell = forget * old_c + in * made, total = forget * old_n + in;
    store<Full>(to, in, count);
    store<Full>(to + size, forget, count);
    store<Full>(to + 2 * size, made, count);
    store<Full>(to + 3 * size, out, count);
    store<Full>(to + 4 * size, sigmoid<T>(-a_f), count);
    store<Full>(job.cells + at, cell, count);
    store<Full>(job.totals + at, total, count);
    store<Full>(job.peaks + at, peak, count);
    store<Full>(job.out + at, out * cell / total, count);
  }
};

template <class T>
void slstm_forward(const SlstmScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  gated_walk<4, kSlstmRows, SlstmStep<T>>(job, packed, first, last);
}

// Fills d_gi of one row. On entry back_c and back_n are the gradients of the cell and of the normaliser from the next
// step; on return they are those before this step.
template <class T>
MEMSUITE_INLINE void slstm_gate_gradients(const SlstmScanJob<T>& job, int64_t t, int64_t b, const T* back_h, T* back_c,
                                          T* back_n) {
  const int64_t size = job.size, row = t * job.batch + b;
  const T* gates = job.gates + row * 5 * size;
  const T *old_c = slstm_before(job, job.c0, job.cells, t, b), *old_n = slstm_before(job, job.n0, job.totals, t, b);
  over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> one = splat<T>(1);
    const Vec<T> in = load<F>(gates + i, n), forget = load<F>(gates + size + i, n);
    const Vec<T> made = load<F>(gates + 2 * size + i, n), out = load<F>(gates + 3 * size + i, n);
    const Vec<T> h = load<F>(job.states + row * size + i, n);
    Vec<T> total = load<F>(job.totals + row * size + i, n);
    if constexpr (!F)
      for (int l = n; l < Simd<T>::lanes; ++l) total[l] = 1;
    const Vec<T> d_h = load<F>(job.grad + row * size + i, n) + load<F>(back_h + i, n);
    Vec<T> d_c = load<F>(back_c + i, n) + d_h * out / total;
    Vec<T> d_n = load<F>(back_n + i, n) - d_h * h / total;
    if (job.grad_cells != nullptr) d_c += load<F>(job.grad_cells + row * size + i, n);
    if (job.grad_totals != nullptr) d_n += load<F>(job.grad_totals + row * size + i, n);
    const Vec<T> d_forget = d_c * load_or_zero<F>(old_c, i, n) + d_n * load_or_zero<F>(old_n, i, n);
    T* d_gi = job.d_gi + row * 4 * size + i;
    store<F>(d_gi, (d_c * made + d_n) * in, n);
    store<F>(d_gi + size, d_forget * forget * load<F>(gates + 4 * size + i, n), n);
    store<F>(d_gi + 2 * size, d_c * in * (one - made * made), n);
    store<F>(d_gi + 3 * size, d_h * h * (one - out), n);
    store<F>(back_c + i, d_c * forget, n);
    store<F>(back_n + i, d_n * forget, n);
  });
}

// Fills d_gi, d_h0, d_c0 and d_n0 of rows [first, last) of the batch, from the last step to the first.
template <class T>
void slstm_backward(const SlstmScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const int64_t size = job.size, all = (last - first) * size;
  T *back_h = job.d_h0 + first * size, *back_c = job.d_c0 + first * size, *back_n = job.d_n0 + first * size;
  Scratch<const T*> rows(last - first);
  T* const parts[3] = {back_h, back_c, back_n};
  for (T* back : parts) memset(back, 0, sizeof(T) * all);
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t at = (b - first) * size;
      slstm_gate_gradients(job, t, b, back_h + at, back_c + at, back_n + at);
      rows.data[b - first] = job.d_gi + (t * job.batch + b) * 4 * size;
    }
    gated_flow<4>(rows.data, packed, back_h, last - first, size);
    for (T* back : parts) gated_erase(job, back, t, first, last);
  }
}

template <class T>
struct Offer<SlstmScanKernels<T>> {
  static constexpr SlstmScanKernels<T> all() {
    using Job = SlstmScanJob<T>;
    return gated_kernels<4, Job, T>(slstm_forward<T>, slstm_backward<T>, gated_weights<4, Job>);
  }
};
template const SlstmScanKernels<float>& offered();
template const SlstmScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
