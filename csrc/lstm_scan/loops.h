// The LSTM recurrence over a sequence, computed like the GRU recurrence in gru_scan/loops.h.
#pragma once

#include "common/gated_loops.h"
#include "common/offer.h"
#include "lstm_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kLstmRows = kAccumulators / 4;  // rows of a forward tile, which has four gates

// The cell before step t of row b; null if a reset erased it.
template <class T>
MEMSUITE_INLINE const T* cell_before(const LstmScanJob<T>& job, int64_t t, int64_t b) {
  if (job.reset[t * job.batch + b]) return nullptr;
  return t == 0 ? job.c0 + b * job.size : job.cells + ((t - 1) * job.batch + b) * job.size;
}

template <class T>
struct LstmStep {
  const LstmScanJob<T>& job;
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
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const int64_t row = t * job.batch + begin + r;
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        __builtin_prefetch(job.gi + (row * 4 + g) * job.size + unit);
        __builtin_prefetch(job.gates + (row * 4 + g) * job.size + unit, 1);
      }
      __builtin_prefetch(job.cells + row * job.size + unit, 1);
      __builtin_prefetch(job.out + row * job.size + unit, 1);
    }
    multiply(sums, rows + (begin - first), block + 4 * L, job.size);
    Vec<T> kept[R][4];
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) kept[r][g] = sums.at[r][g];
    if (count == L) {
#pragma GCC unroll 1
      for (int r = 0; r < R; ++r) gates<true>(kept[r], begin + r);
    } else {
#pragma GCC unroll 1
      for (int r = 0; r < R; ++r) gates<false>(kept[r], begin + r);
    }
  }

  // The gates, the cell and the new state of one row from its products.
  template <bool Full>
  MEMSUITE_INLINE void gates(const Vec<T>* sums, int64_t b) const {
    const int64_t size = job.size, row = t * job.batch + b;
    const T *gi = job.gi + row * 4 * size + unit, *old_row = cell_before(job, t, b);
    T* to = job.gates + row * 4 * size + unit;
    const Vec<T> in = sigmoid<T>(load<Full>(gi, count) + sums[0]);
    const Vec<T> forget = sigmoid<T>(load<Full>(gi + size, count) + sums[1]);
    const Vec<T> made = tanh<T>(load<Full>(gi + 2 * size, count) + sums[2]);
    const Vec<T> out = sigmoid<T>(load<Full>(gi + 3 * size, count) + sums[3]);
    const Vec<T> old = old_row == nullptr ? Vec<T>{} : load<Full>(old_row + unit, count);
    const Vec<T> cell = forget * old + in * made;
    store<Full>(to, in, count);
    store<Full>(to + size, forget, count);
    store<Full>(to + 2 * size, made, count);
    store<Full>(to + 3 * size, out, count);
    store<Full>(job.cells + row * size + unit, cell, count);
    store<Full>(job.out + row * size + unit, out * tanh<T>(cell), count);
  }
};

template <class T>
void lstm_forward(const LstmScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  gated_walk<4, kLstmRows, LstmStep<T>>(job, packed, first, last);
}

// Fills d_gi of one row. On entry back_c is the gradient of the cell from the next step; on return it is the gradient
// of the cell before this step.
template <class T>
MEMSUITE_INLINE void lstm_gate_gradients(const LstmScanJob<T>& job, int64_t t, int64_t b, const T* back_h, T* back_c) {
  const int64_t size = job.size, row = t * job.batch + b;
  const T *gates = job.gates + row * 4 * size, *old_row = cell_before(job, t, b);
  over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> one = splat<T>(1);
    const Vec<T> in = load<F>(gates + i, n), forget = load<F>(gates + size + i, n);
    const Vec<T> made = load<F>(gates + 2 * size + i, n), out = load<F>(gates + 3 * size + i, n);
    const Vec<T> old = old_row == nullptr ? Vec<T>{} : load<F>(old_row + i, n);
    const Vec<T> bent = tanh<T>(load<F>(job.cells + row * size + i, n));
    const Vec<T> d_h = load<F>(job.grad + row * size + i, n) + load<F>(back_h + i, n);
    Vec<T> d_c = load<F>(back_c + i, n) + d_h * out * (one - bent * bent);
    if (job.grad_cells != nullptr) d_c += load<F>(job.grad_cells + row * size + i, n);
    T* d_gi = job.d_gi + row * 4 * size + i;
    store<F>(d_gi, d_c * made * in * (one - in), n);
    store<F>(d_gi + size, d_c * old * forget * (one - forget), n);
    store<F>(d_gi + 2 * size, d_c * in * (one - made * made), n);
    store<F>(d_gi + 3 * size, d_h * bent * out * (one - out), n);
    store<F>(back_c + i, d_c * forget, n);
  });
}

// Fills d_gi, d_h0 and d_c0 of rows [first, last) of the batch, from the last step to the first.
template <class T>
void lstm_backward(const LstmScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  const int64_t size = job.size;
  T *back_h = job.d_h0 + first * size, *back_c = job.d_c0 + first * size;
  Scratch<const T*> rows(last - first);
  memset(back_h, 0, sizeof(T) * (last - first) * size);
  memset(back_c, 0, sizeof(T) * (last - first) * size);
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) {
      lstm_gate_gradients(job, t, b, back_h + (b - first) * size, back_c + (b - first) * size);
      rows.data[b - first] = job.d_gi + (t * job.batch + b) * 4 * size;
    }
    gated_flow<4>(rows.data, packed, back_h, last - first, size);
    gated_erase(job, back_h, t, first, last);
    gated_erase(job, back_c, t, first, last);
  }
}

template <class T>
struct Offer<LstmScanKernels<T>> {
  static constexpr LstmScanKernels<T> all() {
    using Job = LstmScanJob<T>;
    return gated_kernels<4, Job, T>(lstm_forward<T>, lstm_backward<T>, gated_weights<4, Job>);
  }
};
template const LstmScanKernels<float>& offered();
template const LstmScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
