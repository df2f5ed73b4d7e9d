// The matrix-state recurrence in reverse; see loops_forward.h.
#pragma once

#include "matrix_scan/loops_forward.h"

namespace memsuite::MEMSUITE_LEVEL {

// The working memory of a tile's backward pass: the states around each step of the chunk, the values written at each
// step, and sums over tiles.
template <class T>
struct MatrixFlow {
  static constexpr int L = Simd<T>::lanes;
  const int64_t chunk, width;
  Scratch<T> before, missed, written, d_q, d_k;  // [chunk + 1][L][width], [chunk][L] twice, [chunk][width] twice
  Scratch<Vec<T>> d_decay, d_beta;               // [chunk], with the sum over lanes still to be made

  MatrixFlow(int64_t steps, int64_t padded)
      : chunk(steps),
        width(padded),
        before((steps + 1) * L * padded),
        missed(steps * L),
        written(steps * L),
        d_q(steps * padded),
        d_k(steps * padded),
        d_decay(steps),
        d_beta(steps) {}

  T* state(int64_t step) const { return before.data + step * L * width; }
};

// Passes the gradient back to the state before, through the delta rule's recalled value and through the decay.
template <class T, int R>
MEMSUITE_INLINE void delta_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t s, const T* old,
                                const T* d_recalled, T* back) {
  constexpr int L = Simd<T>::lanes;
  const T* k = c.k.data + s * c.width;
  const Vec<T> decay = splat<T>(c.decay.data[s]);
  Vec<T> d_log = {};
  for (int64_t j = 0; j < c.width; j += L) {
    const Vec<T> key = load<true>(k + j, L);
    Vec<T> d_key = {};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> sent = splat<T>(d_recalled[r]), stood = load<true>(old + r * c.width + j, L);
      const Vec<T> flow = load<true>(back + r * c.width + j, L) + sent * key;
      d_key += sent * stood;
      d_log += flow * stood;
      store<true>(back + r * c.width + j, decay * flow, L);
    }
    T* to = f.d_k.data + s * c.width + j;
    store<true>(to, load<true>(to, L) + decay * d_key, L);
  }
  f.d_decay.data[s] += decay * d_log;
}

// Step s of rows v to v + R in reverse; back holds the gradient of the state after it, then of the state before it.
template <class T, int R, bool Delta>
MEMSUITE_INLINE void matrix_step_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t s, int64_t v, T* back) {
  constexpr int L = Simd<T>::lanes;
  const int64_t at = c.at(s) * c.job.values + v;
  const T *q = c.q.data + s * c.width, *k = c.k.data + s * c.width, *grad = c.job.grad + at;
  const T* written = Delta ? f.written.data + s * L : c.job.v + at;
  const T *old = c.erased(s) ? c.zeros.data : f.state(s), *now = f.state(s + 1);
  const Vec<T> decay = splat<T>(c.decay.data[s]);
  Vec<T> sums[R] = {}, d_log = {};
  for (int64_t j = 0; j < c.width; j += L) {
    const Vec<T> key = load<true>(k + j, L), query = load<true>(q + j, L);
    T *to_q = f.d_q.data + s * c.width + j, *to_k = f.d_k.data + s * c.width + j;
    Vec<T> d_query = load<true>(to_q, L), d_key = load<true>(to_k, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      T* through = back + r * c.width + j;
      const Vec<T> flow = load<true>(through, L) + splat<T>(grad[r]) * query;
      sums[r] += flow * key;
      d_key += flow * splat<T>(written[r]);
      d_query += load<true>(now + r * c.width + j, L) * splat<T>(grad[r]);
      if constexpr (!Delta) d_log += flow * load<true>(old + r * c.width + j, L);
      store<true>(through, Delta ? flow : decay * flow, L);
    }
    store<true>(to_q, d_query, L);
    store<true>(to_k, d_key, L);
  }
  Vec<T> d_values = fold<R, T>(sums);
  if constexpr (Delta) {
    T d_recalled[L];
    f.d_beta.data[s] += d_values * load<R == L>(f.missed.data + s * L, R);
    d_values *= splat<T>(c.job.beta[c.at(s)]);
    store<true>(d_recalled, -d_values, L);
    delta_back<T, R>(c, f, s, old, d_recalled, back);
  } else {
    f.d_decay.data[s] += decay * d_log;
  }
  store<R == L>(c.job.d_v + at, d_values, R);
  if (c.erased(s)) memset(back, 0, sizeof(T) * R * c.width);
}

// Rows v to v + R through a chunk in reverse, with the state [R][width] before it.
template <class T, int R, bool Delta>
__attribute__((noinline)) void matrix_tile_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t v,
                                                const T* state, T* back) {
  constexpr int L = Simd<T>::lanes;
  memcpy(f.state(0), state, sizeof(T) * R * c.width);
  for (int64_t s = 0; s < c.count; ++s) {
    const T *from = c.erased(s) ? c.zeros.data : f.state(s), *write = c.job.v + c.at(s) * c.job.values + v;
    T* written = f.written.data + s * L;
    if constexpr (Delta) delta_values<T, R>(c, s, v, from, f.missed.data + s * L, written), write = written;
    matrix_advance<T, R, false>(c, s, v, from, write, f.state(s + 1));
  }
  for (int64_t s = c.count - 1; s >= 0; --s) matrix_step_back<T, R, Delta>(c, f, s, v, back);
}

// Writes out the sums of a chunk of one head; sums of queries or keys that all heads share, only after the last head.
template <class T, bool Delta>
void matrix_hand_out(const MatrixChunk<T>& c, const MatrixFlow<T>& f) {
  const MatrixScanJob<T>& job = c.job;
  const bool last = c.h == job.heads - 1;
  for (int64_t s = 0; s < c.count; ++s) {
    const int64_t to_q = c.row(s) * job.query_heads + c.h % job.query_heads;
    const int64_t to_k = c.row(s) * job.key_heads + c.h % job.key_heads;
    if (last || job.query_heads > 1) memcpy(job.d_q + to_q * job.keys, f.d_q.data + s * c.width, sizeof(T) * job.keys);
    if (last || job.key_heads > 1) memcpy(job.d_k + to_k * job.keys, f.d_k.data + s * c.width, sizeof(T) * job.keys);
    job.d_log_decay[c.at(s)] = sum_of_lanes<T>(f.d_decay.data[s]);
    if constexpr (Delta) job.d_beta[c.at(s)] = sum_of_lanes<T>(f.d_beta.data[s]);
  }
}

template <class T>
void matrix_begin_sums(const MatrixChunk<T>& c, const MatrixFlow<T>& f) {
  const int64_t size = sizeof(T) * f.chunk * f.width;
  if (c.h == 0 || c.job.query_heads > 1) memset(f.d_q.data, 0, size);
  if (c.h == 0 || c.job.key_heads > 1) memset(f.d_k.data, 0, size);
  memset(f.d_decay.data, 0, sizeof(Vec<T>) * f.chunk);
  memset(f.d_beta.data, 0, sizeof(Vec<T>) * f.chunk);
}

// Takes groups [first, last) of `together` heads each. The heads of a group share a gradient, so one thread takes them
// in order.
template <class T, bool Delta>
void matrix_backward(const MatrixScanJob<T>& job, int64_t together, int64_t first, int64_t last) {
  MatrixChunk<T> c(job);
  const int64_t size = job.values * c.width, each = job.values * job.keys;
  MatrixFlow<T> f(job.chunk, c.width);
  Scratch<T> state(size), back(together * size);
  for (int64_t n = first * together; n < last * together; n += together) {
    for (int64_t i = 0; i < together; ++i)
      rows_of_values(back.data + i * size, job.grad_last + (n + i) * each, job.keys, job.values, c.width);
    for (int64_t index = c.chunks() - 1; index >= 0; --index) {
      for (int64_t i = 0; i < together; ++i) {
        c.take(index, (n + i) / job.heads, (n + i) % job.heads);
        matrix_begin_sums(c, f);
        rows_of_values(state.data, c.state(job.states, index), job.keys, job.values, c.width);
        over_values<T>(job.values, [&](auto height, int64_t v) __attribute__((always_inline)) {
          constexpr int R = decltype(height)::value;
          matrix_tile_back<T, R, Delta>(c, f, v, state.data + v * c.width, back.data + i * size + v * c.width);
        });
        matrix_hand_out<T, Delta>(c, f);
      }
    }
    for (int64_t i = 0; i < together; ++i)
      rows_of_keys(job.d_s0 + (n + i) * each, back.data + i * size, job.keys, job.values, c.width);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
