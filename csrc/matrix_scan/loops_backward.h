// The matrix-state recurrence in reverse; see loops_forward.h.
#pragma once

#include "matrix_scan/loops_forward.h"

namespace memsuite::MEMSUITE_LEVEL {

// The working memory of a tile's backward pass: the states around each step of the chunk, what each step noted and
// wrote, and sums over tiles.
template <class T>
struct MatrixFlow {
  static constexpr int L = Simd<T>::lanes;
  const int64_t chunk, width;
  Scratch<T> before, noted, written;                // [chunk + 1][L][width], [chunk][L] twice
  Scratch<T> d_q, d_k, d_logs, d_erase, d_address;  // [chunk][width]
  Scratch<Vec<T>> d_log, d_beta;                    // [chunk], with the sum over lanes still to be made

  explicit MatrixFlow(const MatrixChunk<T>& c)
      : chunk(c.job.chunk),
        width(c.width),
        before((chunk + 1) * L * width),
        noted(chunk * L),
        written(chunk * L),
        d_q(chunk * width),
        d_k(chunk * width),
        d_logs(chunk * width),
        d_erase(chunk * width),
        d_address(chunk * width),
        d_log(chunk),
        d_beta(chunk) {}

  T* state(int64_t step) const { return before.data + step * L * width; }
};

template <class T>
MEMSUITE_INLINE void add_to(T* row, Vec<T> more) {
  store<true>(row, load<true>(row, Simd<T>::lanes) + more, Simd<T>::lanes);
}

// Takes the gradients of what an edit erases, and returns that of what it found.
template <class T, int R>
MEMSUITE_INLINE Vec<T> matrix_erase_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t s, const T* back) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = c.width;
  const T *erase = c.erase.data + s * width, *found = f.noted.data + s * L;
  Vec<T> sums[R] = {};
  for (int64_t j = 0; j < width; j += L) {
    T* to = f.d_erase.data + s * width + j;
    const Vec<T> gone = load<true>(erase + j, L);
    Vec<T> d_gone = load<true>(to, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> flow = load<true>(back + j * R + r * L, L);
      sums[r] += flow * gone;
      d_gone -= flow * splat<T>(found[r]);
    }
    store<true>(to, d_gone, L);
  }
  return -fold<R, T>(sums);
}

// Passes the gradient back to the state before: through what was found there, and through the decay.
template <class T, int R, Rule rule, bool Channels>
MEMSUITE_INLINE void matrix_find_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t s, const T* old,
                                      Vec<T> d_found, T* back) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = c.width;
  const StepDecay<T, Channels> decays(c, s);
  const T* address = c.address.data + s * width;
  T sent[L];
  store<true>(sent, d_found, L);
  Vec<T> of_head{};
  for (int64_t j = 0; j < width; j += L) {
    const Vec<T> at = load<true>(address + j, L), decay = decays.at(j);
    Vec<T> d_at{}, d_decay{};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      T* through = back + j * R + r * L;
      const Vec<T> stood = load<true>(old + j * R + r * L, L), flow = load<true>(through, L);
      d_at += splat<T>(sent[r]) * stood;
      d_decay += flow * stood;
      store<true>(through, decay * flow + splat<T>(sent[r]) * at, L);
    }
    Vec<T> d_log = decay * d_decay;
    if constexpr (rule == Rule::kDelta) {  // the address is the decayed key
      add_to(f.d_k.data + s * width + j, decay * d_at);
      d_log += at * d_at;
    } else {
      add_to(f.d_address.data + s * width + j, d_at);
    }
    if constexpr (Channels)
      add_to(f.d_logs.data + s * width + j, d_log);
    else
      of_head += d_log;
  }
  if constexpr (!Channels) f.d_log.data[s] += of_head;
}

// Step s of rows v to v + R in reverse; back holds the gradient of the state after it, then of the state before it.
template <class T, int R, Rule rule, bool Channels>
MEMSUITE_INLINE void matrix_step_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t s, int64_t v, T* back) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = c.width;
  constexpr bool Sum = rule == Rule::kSum;
  const int64_t at = c.at(s) * c.job.values + v;
  const T *q = c.q.data + s * width, *k = c.k.data + s * width, *grad = c.job.grad + at;
  const T* written = rule == Rule::kDelta ? f.written.data + s * L : c.job.v + at;
  const T *old = c.erased(s) ? c.nothing.data : f.state(s), *now = f.state(s + 1);
  const StepDecay<T, Channels> decays(c, s);
  Vec<T> sums[R] = {}, of_head{};
  for (int64_t j = 0; j < width; j += L) {
    const Vec<T> key = load<true>(k + j, L), query = load<true>(q + j, L), decay = decays.at(j);
    Vec<T> d_query{}, d_key{}, d_decay{};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      T* through = back + j * R + r * L;
      const Vec<T> flow = load<true>(through, L) + splat<T>(grad[r]) * query;
      sums[r] += flow * key;
      d_key += flow * splat<T>(written[r]);
      d_query += load<true>(now + j * R + r * L, L) * splat<T>(grad[r]);
      if constexpr (Sum) d_decay += flow * load<true>(old + j * R + r * L, L);
      store<true>(through, Sum ? decay * flow : flow, L);
    }
    add_to(f.d_q.data + s * width + j, d_query);
    add_to(f.d_k.data + s * width + j, d_key);
    if constexpr (Sum && Channels)
      add_to(f.d_logs.data + s * width + j, decay * d_decay);
    else
      of_head += d_decay;
  }
  Vec<T> d_values = fold<R, T>(sums);
  if constexpr (rule == Rule::kDelta) {
    f.d_beta.data[s] += d_values * load<R == L>(f.noted.data + s * L, R);
    d_values *= splat<T>(c.job.beta[c.at(s)]);
    matrix_find_back<T, R, rule, Channels>(c, f, s, old, -d_values, back);
  } else if constexpr (rule == Rule::kEdit) {
    matrix_find_back<T, R, rule, Channels>(c, f, s, old, matrix_erase_back<T, R>(c, f, s, back), back);
  } else if constexpr (!Channels) {
    f.d_log.data[s] += decays.of_head * of_head;
  }
  store<R == L>(c.job.d_v + at, d_values, R);
  if (c.erased(s)) memset(back, 0, sizeof(T) * R * width);
}

// Rows v to v + R through a chunk in reverse, with the state [R][width] before it.
template <class T, int R, Rule rule, bool Channels>
__attribute__((noinline)) void matrix_tile_back(const MatrixChunk<T>& c, const MatrixFlow<T>& f, int64_t v,
                                                const T* state, T* back) {
  constexpr int L = Simd<T>::lanes;
  memcpy(f.state(0), state, sizeof(T) * R * c.width);
  for (int64_t s = 0; s < c.count; ++s)
    matrix_advance<T, R, rule, Channels, false>(c, s, v, f.state(s), f.state(s + 1), f.noted.data + s * L,
                                                f.written.data + s * L);
  for (int64_t s = c.count - 1; s >= 0; --s) matrix_step_back<T, R, rule, Channels>(c, f, s, v, back);
}

// Writes out the sums of a chunk of one head; sums of queries or keys that all heads share, only after the last head.
template <class T, Rule rule, bool Channels>
void matrix_hand_out(const MatrixChunk<T>& c, const MatrixFlow<T>& f) {
  const MatrixScanJob<T>& job = c.job;
  const bool last = c.h == job.heads - 1;
  const int64_t size = sizeof(T) * job.keys;
  for (int64_t s = 0; s < c.count; ++s) {
    const int64_t to_q = c.row(s) * job.query_heads + c.h % job.query_heads;
    const int64_t to_k = c.row(s) * job.key_heads + c.h % job.key_heads;
    if (last || job.query_heads > 1) memcpy(job.d_q + to_q * job.keys, f.d_q.data + s * c.width, size);
    if (last || job.key_heads > 1) memcpy(job.d_k + to_k * job.keys, f.d_k.data + s * c.width, size);
    if constexpr (Channels)
      memcpy(job.d_log_decay + c.at(s) * job.keys, f.d_logs.data + s * c.width, size);
    else
      job.d_log_decay[c.at(s)] = sum_of_lanes<T>(f.d_log.data[s]);
    if constexpr (rule == Rule::kDelta) job.d_beta[c.at(s)] = sum_of_lanes<T>(f.d_beta.data[s]);
    if constexpr (rule != Rule::kEdit) continue;
    memcpy(job.d_erase + c.at(s) * job.keys, f.d_erase.data + s * c.width, size);
    memcpy(job.d_address + c.at(s) * job.keys, f.d_address.data + s * c.width, size);
  }
}

template <class T, Rule rule, bool Channels>
void matrix_begin_sums(const MatrixChunk<T>& c, const MatrixFlow<T>& f) {
  const int64_t size = sizeof(T) * f.chunk * f.width;
  if (c.h == 0 || c.job.query_heads > 1) memset(f.d_q.data, 0, size);
  if (c.h == 0 || c.job.key_heads > 1) memset(f.d_k.data, 0, size);
  if constexpr (Channels) memset(f.d_logs.data, 0, size);
  if constexpr (rule == Rule::kEdit) memset(f.d_erase.data, 0, size), memset(f.d_address.data, 0, size);
  memset(f.d_log.data, 0, sizeof(Vec<T>) * f.chunk);
  memset(f.d_beta.data, 0, sizeof(Vec<T>) * f.chunk);
}

// Takes groups [first, last) of `together` heads each. The heads of a group share a gradient, so one thread takes them
// in order.
template <class T, Rule rule, bool Channels>
void matrix_backward(const MatrixScanJob<T>& job, int64_t together, int64_t first, int64_t last) {
  MatrixChunk<T> c(job);
  const int64_t size = job.values * c.width, each = job.values * job.keys;
  MatrixFlow<T> f(c);
  Scratch<T> state(size), back(together * size);
  for (int64_t n = first * together; n < last * together; n += together) {
    for (int64_t i = 0; i < together; ++i)
      into_tiles(back.data + i * size, job.grad_last + (n + i) * each, job.keys, job.values, c.width);
    for (int64_t index = c.chunks() - 1; index >= 0; --index) {
      for (int64_t i = 0; i < together; ++i) {
        c.take(index, (n + i) / job.heads, (n + i) % job.heads);
        matrix_begin_sums<T, rule, Channels>(c, f);
        into_tiles(state.data, c.state(job.states, index), job.keys, job.values, c.width);
        over_values<T>(job.values, [&](auto height, int64_t v) __attribute__((always_inline)) {
          constexpr int R = decltype(height)::value;
          matrix_tile_back<T, R, rule, Channels>(c, f, v, state.data + v * c.width, back.data + i * size + v * c.width);
        });
        matrix_hand_out<T, rule, Channels>(c, f);
      }
    }
    for (int64_t i = 0; i < together; ++i)
      out_of_tiles(job.d_s0 + (n + i) * each, back.data + i * size, job.keys, job.values, c.width);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
