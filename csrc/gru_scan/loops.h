// The GRU recurrence over a sequence: the product, the gates and the new state are computed in registers in one pass.
//
// The recurrent weights are packed once per call and stay in the second-level cache (196 KB at width 128). A block of
// their columns, which is all three gates of as many units as a vector has lanes, stays in the first-level cache while
// all environments use it. The multiply-adds therefore determine the cost of a step, at any length.
#pragma once

#include "common/gated_loops.h"
#include "common/offer.h"
#include "common/weight_gradients.h"
#include "gru_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kGateRows = kAccumulators / 3;  // rows of a forward tile, which has three gates

template <class T>
struct GruStep {
  const GruScanJob<T>& job;
  const T* const* rows;  // states before this step, of the rows from `first`
  const T* block;        // packed weights of these units
  int64_t t, first, unit;
  int count;

  template <int R, bool Full>
  __attribute__((noinline)) void tile(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    const int64_t size = job.size;
    Tile<T, R, 3> sums;
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < 3; ++g) sums.at[r][g] = load<true>(block + g * L, L);
    // The product takes long enough to prefetch the data that the gates will read and write, one cache line per row.
    // The processor does not predict these accesses.
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const int64_t row = t * job.batch + begin + r;
#pragma GCC unroll 4
      for (int g = 0; g < 3; ++g) {
        __builtin_prefetch(job.gi + (row * 3 + g) * size + unit);
        __builtin_prefetch(job.gates + (row * 3 + g) * size + unit, 1);
      }
      __builtin_prefetch(job.candidates + row * size + unit, 1);
      __builtin_prefetch(job.out + row * size + unit, 1);
    }
    multiply(sums, rows + (begin - first), block + 3 * L, size);
    // The gates are computed row by row, with the sums in memory, so that the registers are free for their constants.
    Vec<T> kept[R][3];
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < 3; ++g) kept[r][g] = sums.at[r][g];
#pragma GCC unroll 1
    for (int r = 0; r < R; ++r) gates<Full>(kept[r], rows[begin - first + r], begin + r);
  }

  // The gates and the new state of one row from its products.
  template <bool Full>
  MEMSUITE_INLINE void gates(const Vec<T>* sums, const T* old_row, int64_t b) const {
    const int64_t size = job.size, row = t * job.batch + b;
    const T* gi = job.gi + row * 3 * size + unit;
    T* to = job.gates + row * 3 * size + unit;
    const Vec<T> reset = sigmoid<T>(load<Full>(gi, count) + sums[0]);
    const Vec<T> update = sigmoid<T>(load<Full>(gi + size, count) + sums[1]);
    const Vec<T> made = tanh<T>(load<Full>(gi + 2 * size, count) + reset * sums[2]);
    const Vec<T> old = load<Full>(old_row + unit, count);
    store<Full>(to, reset, count);
    store<Full>(to + size, update, count);
    store<Full>(to + 2 * size, sums[2], count);
    store<Full>(job.candidates + row * size + unit, made, count);
    store<Full>(job.out + row * size + unit, made + update * (old - made), count);
  }

  template <int R>
  void run(int64_t begin) const {
    if (count == Simd<T>::lanes) {
      tile<R, true>(begin);
    } else {
      tile<R, false>(begin);
    }
  }
};

template <class T>
void gru_forward(const GruScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  gated_walk<3, kGateRows, GruStep<T>>(job, packed, first, last);
}

// The gradient that step t passes back through its gates to the state before it: back += d_g W_hh.
template <class T>
struct GruFlow {
  const GruScanJob<T>& job;
  T* back;
  const T* block;
  int64_t t, first, column;

  // Prefetches what the gates of the step before will read and write, of these columns, while the product is computed.
  template <int R>
  MEMSUITE_INLINE void fetch(int64_t begin) const {
    constexpr int line = 64 / sizeof(T);
    if (t == 0) return;
    const int64_t size = job.size, end = column + 2 * Simd<T>::lanes < size ? column + 2 * Simd<T>::lanes : size;
    for (int r = 0; r < R; ++r) {
      const int64_t row = (t - 1) * job.batch + begin + r;
      for (int64_t i = column; i < end; i += line) {
#pragma GCC unroll 4
        for (int g = 0; g < 3; ++g) {
          __builtin_prefetch(job.gates + (row * 3 + g) * size + i);
          __builtin_prefetch(job.d_gi + (row * 3 + g) * size + i, 1);
        }
        __builtin_prefetch(job.candidates + row * size + i);
        __builtin_prefetch(job.grad + row * size + i);
        __builtin_prefetch(job.d_gn + row * size + i, 1);
        if (t > 1) __builtin_prefetch(job.states + (row - job.batch) * size + i);
      }
    }
  }

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    const int64_t size = job.size;
    const T *head[R], *tail[R];
    Tile<T, R, 2> sums;
    for (int r = 0; r < R; ++r) {
      const int64_t row = t * job.batch + begin + r;
      head[r] = job.d_gi + row * 3 * size;
      tail[r] = job.d_gn + row * size;
    }
    fetch<R>(begin);
    T* to = back + (begin - first) * size + column;
    const int64_t left = size - column;
    if (left >= 2 * L) {
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < 2; ++v) sums.at[r][v] = load<true>(to + r * size + v * L, L);
      multiply(sums, head, block, 2 * size);
      multiply(sums, tail, block + 2 * size * 2 * L, size);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < 2; ++v) store<true>(to + r * size + v * L, sums.at[r][v], L);
      return;
    }
    const int counts[2] = {lanes_of<T>(left), lanes_of<T>(left - L)};
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v) sums.at[r][v] = load<false>(to + r * size + v * L, counts[v]);
    multiply(sums, head, block, 2 * size);
    multiply(sums, tail, block + 2 * size * 2 * L, size);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v) store<false>(to + r * size + v * L, sums.at[r][v], counts[v]);
  }
};

// Fills d_gi and d_gn of one row. On entry back is the gradient from the next step. On return it is the part that
// bypasses the product and goes directly to the state before.
template <class T>
MEMSUITE_INLINE void gru_gate_gradients(const GruScanJob<T>& job, int64_t t, int64_t b, T* back) {
  const int64_t size = job.size, row = t * job.batch + b;
  const T* gates = job.gates + row * 3 * size;
  const T* old_row = before(job, job.states, t, b);
  over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> one = splat<T>(1);
    const Vec<T> r = load<F>(gates + i, n), z = load<F>(gates + size + i, n), g_n = load<F>(gates + 2 * size + i, n);
    const Vec<T> made = load<F>(job.candidates + row * size + i, n);
    const Vec<T> old = old_row == nullptr ? Vec<T>{} : load<F>(old_row + i, n);
    const Vec<T> flow = load<F>(job.grad + row * size + i, n) + load<F>(back + i, n);
    const Vec<T> d_n = flow * (one - z) * (one - made * made);
    T* d_gi = job.d_gi + row * 3 * size + i;
    store<F>(d_gi, d_n * g_n * r * (one - r), n);
    store<F>(d_gi + size, flow * (old - made) * z * (one - z), n);
    store<F>(d_gi + 2 * size, d_n, n);
    store<F>(job.d_gn + row * size + i, d_n * r, n);
    store<F>(back + i, flow * z, n);
  });
}

// Fills d_gi, d_gn and d_h0 of rows [first, last) of the batch, from the last step to the first.
template <class T>
void gru_backward(const GruScanJob<T>& job, const T* packed, int64_t first, int64_t last) {
  constexpr int64_t width = 2 * Simd<T>::lanes;
  const int64_t size = job.size;
  T* back = job.d_h0 + first * size;
  memset(back, 0, sizeof(T) * (last - first) * size);
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t b = first; b < last; ++b) gru_gate_gradients(job, t, b, back + (b - first) * size);
    for (int64_t column = 0; column < size; column += width) {
      const GruFlow<T> flow{job, back, packed + column * 3 * size, t, first, column};
      over_rows<kFlowRows>(first, last, flow);
    }
    gated_erase(job, back, t, first, last);
  }
}

// Fills tiles [first, last) of kOuterRows rows of d_w and d_b, after gru_backward has filled d_gi and d_gn.
template <class T>
void gru_weights(const GruScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t size = job.size;
  const RowGradients<T> parts[2] = {{job.d_gi, 3 * size, 2 * size}, {job.d_gn, size, size}};
  outer_products(job.d_w, job.d_b, parts, 3 * size, size, job.steps * job.batch, first, last,
                 [&](int64_t k) { return before(job, job.states, k / job.batch, k % job.batch); });
}

template <class T>
struct Offer<GruScanKernels<T>> {
  static constexpr GruScanKernels<T> all() {
    return gated_kernels<3, GruScanJob<T>, T>(gru_forward<T>, gru_backward<T>, gru_weights<T>);
  }
};
template const GruScanKernels<float>& offered();
template const GruScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
