// The matrix-state recurrence of linear attention and related models, with and without the delta rule.
//
// Each column of the state [K][V] of a head is a separate recurrence. Here the state is stored as [V][K], with the keys
// along the lanes, so that a sum over values needs no sum over lanes. A tile of as many rows as a vector has lanes goes
// through a whole chunk of time before the next tile does, so that it stays in the first-level cache. The forward pass
// saves the state before each chunk; loops_backward.h recomputes the states within the chunk.
#pragma once

#include "common/fold.h"
#include "common/matmul.h"
#include "matrix_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// A chunk of time of one head: its decays, and its queries and keys, padded to whole vectors.
template <class T>
struct MatrixChunk {
  static constexpr int L = Simd<T>::lanes;
  const MatrixScanJob<T>& job;
  const int64_t width;  // of a padded row of keys
  int64_t b = 0, h = 0, begin = 0, count = 0;
  Scratch<T> q, k, decay, zeros;

  explicit MatrixChunk(const MatrixScanJob<T>& of)
      : job(of),
        width(round_up<L>(of.keys)),
        q(of.chunk * width),
        k(of.chunk * width),
        decay(round_up<L>(of.chunk)),
        zeros(L * width) {
    memset(q.data, 0, sizeof(T) * of.chunk * width);
    memset(k.data, 0, sizeof(T) * of.chunk * width);
    memset(decay.data, 0, sizeof(T) * round_up<L>(of.chunk));
    memset(zeros.data, 0, sizeof(T) * L * width);
  }

  int64_t row(int64_t step) const { return (begin + step) * job.batch + b; }
  int64_t at(int64_t step) const { return row(step) * job.heads + h; }
  bool erased(int64_t step) const { return job.reset[row(step)]; }
  int64_t chunks() const { return (job.steps + job.chunk - 1) / job.chunk; }
  T* state(T* states, int64_t index) const {  // of states [.., B, H, K, V]
    return states + ((index * job.batch + b) * job.heads + h) * job.keys * job.values;
  }

  void take(int64_t index, int64_t of_batch, int64_t of_heads) {
    b = of_batch, h = of_heads, begin = index * job.chunk;
    count = job.steps - begin < job.chunk ? job.steps - begin : job.chunk;
    for (int64_t s = 0; s < count; ++s) {
      const int64_t from_q = row(s) * job.query_heads + h % job.query_heads;
      const int64_t from_k = row(s) * job.key_heads + h % job.key_heads;
      memcpy(q.data + s * width, job.q + from_q * job.keys, sizeof(T) * job.keys);
      memcpy(k.data + s * width, job.k + from_k * job.keys, sizeof(T) * job.keys);
      decay.data[s] = job.log_decay[at(s)];
    }
    for (int64_t s = 0; s < count; s += L) store<true>(decay.data + s, exp<T>(load<true>(decay.data + s, L)), L);
  }
};

// Transposes from [K][V] to [V][width], with zeros beyond K.
template <class T>
void rows_of_values(T* to, const T* from, int64_t keys, int64_t values, int64_t width) {
  memset(to, 0, sizeof(T) * values * width);
  for (int64_t k = 0; k < keys; ++k)
    for (int64_t v = 0; v < values; ++v) to[v * width + k] = from[k * values + v];
}

// Transposes from [V][width] to [K][V].
template <class T>
void rows_of_keys(T* to, const T* from, int64_t keys, int64_t values, int64_t width) {
  for (int64_t k = 0; k < keys; ++k)
    for (int64_t v = 0; v < values; ++v) to[k * values + v] = from[v * width + k];
}

// Calls body(height, v) for tiles that cover the values, with the height as a constant: first tiles of as many rows as
// a vector has lanes, then the remaining rows one by one.
template <class T, class Body>
MEMSUITE_INLINE void over_values(int64_t values, Body body) {
  constexpr int L = Simd<T>::lanes;
  int64_t v = 0;
  for (; v + L <= values; v += L) body(std::integral_constant<int, L>{}, v);
  for (; v < values; ++v) body(std::integral_constant<int, 1>{}, v);
}

// The values that the delta rule writes at a step, for values v to v + R: missed = v - (a S)^T k, where a S is the
// decayed state, and written = beta missed.
template <class T, int R>
MEMSUITE_INLINE void delta_values(const MatrixChunk<T>& c, int64_t s, int64_t v, const T* from, T* missed, T* written) {
  constexpr int L = Simd<T>::lanes;
  const T* k = c.k.data + s * c.width;
  Vec<T> sums[R] = {};
  for (int64_t j = 0; j < c.width; j += L) {
    const Vec<T> key = load<true>(k + j, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] += key * load<true>(from + r * c.width + j, L);
  }
  const Vec<T> values = load<R == L>(c.job.v + c.at(s) * c.job.values + v, R);
  const Vec<T> gone = values - splat<T>(c.decay.data[s]) * fold<R, T>(sums);
  store<R == L>(missed, gone, R);
  store<R == L>(written, splat<T>(c.job.beta[c.at(s)]) * gone, R);
}

// One step of rows v to v + R: to = decay * from + written k. With Answer it also computes y from the new state.
template <class T, int R, bool Answer>
MEMSUITE_INLINE void matrix_advance(const MatrixChunk<T>& c, int64_t s, int64_t v, const T* from, const T* written,
                                    T* to) {
  constexpr int L = Simd<T>::lanes;
  const T *q = c.q.data + s * c.width, *k = c.k.data + s * c.width;
  const Vec<T> decay = splat<T>(c.decay.data[s]);
  Vec<T> sums[R] = {};
  for (int64_t j = 0; j < c.width; j += L) {
    const Vec<T> key = load<true>(k + j, L), query = load<true>(q + j, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> made = decay * load<true>(from + r * c.width + j, L) + splat<T>(written[r]) * key;
      store<true>(to + r * c.width + j, made, L);
      if constexpr (Answer) sums[r] += query * made;
    }
  }
  if constexpr (Answer) store<R == L>(c.job.y + c.at(s) * c.job.values + v, fold<R, T>(sums), R);
}

template <class T, int R, bool Delta>
__attribute__((noinline)) void matrix_tile(const MatrixChunk<T>& c, int64_t v, T* state) {
  T missed[Simd<T>::lanes], written[Simd<T>::lanes];
  for (int64_t s = 0; s < c.count; ++s) {
    const T *from = c.erased(s) ? c.zeros.data : state, *write = c.job.v + c.at(s) * c.job.values + v;
    if constexpr (Delta) delta_values<T, R>(c, s, v, from, missed, written), write = written;
    matrix_advance<T, R, true>(c, s, v, from, write, state);
  }
}

// Takes heads [first, last) of B x H.
template <class T, bool Delta>
void matrix_forward(const MatrixScanJob<T>& job, int64_t first, int64_t last) {
  MatrixChunk<T> c(job);
  Scratch<T> state(job.values * c.width);
  for (int64_t n = first; n < last; ++n) {
    rows_of_values(state.data, job.s0 + n * job.keys * job.values, job.keys, job.values, c.width);
    for (int64_t index = 0; index < c.chunks(); ++index) {
      c.take(index, n / job.heads, n % job.heads);
      rows_of_keys(c.state(job.states, index), state.data, job.keys, job.values, c.width);
      over_values<T>(job.values, [&](auto height, int64_t v) __attribute__((always_inline)) {
        matrix_tile<T, decltype(height)::value, Delta>(c, v, state.data + v * c.width);
      });
    }
    rows_of_keys(job.last + n * job.keys * job.values, state.data, job.keys, job.values, c.width);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
