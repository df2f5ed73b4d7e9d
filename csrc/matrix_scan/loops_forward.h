// The matrix-state recurrence of linear attention and related models, by each rule, with a decay of the head or of
// channels.
//
// Each column of the state [K][V] of a head is a separate recurrence. Here the keys lie along the lanes, so that a sum
// over values needs no sum over lanes: a tile holds as many values as a vector has lanes, as [K /
// lanes][values][lanes], where the place of a number within the tile is a constant. A tile goes through a whole chunk
// of time before the next one does, so that it stays in the first-level cache. The forward pass saves the state before
// each chunk; loops_backward.h recomputes the states within the chunk.
#pragma once

#include "common/fold.h"
#include "common/matmul.h"
#include "matrix_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
struct Zeros : Scratch<T> {
  explicit Zeros(int64_t count) : Scratch<T>(count) { memset(this->data, 0, sizeof(T) * count); }
};

// A chunk of time of one head: its decays, and its rows of keys, padded to whole vectors.
template <class T>
struct MatrixChunk {
  static constexpr int L = Simd<T>::lanes;
  const MatrixScanJob<T>& job;
  const int64_t width;  // of a padded row of keys
  int64_t b = 0, h = 0, begin = 0, count = 0;
  // The decay of the head at each step, or the decays of its channels. `address` is where the delta rule or an edit
  // finds what it takes away, in the state before the decay: for the delta rule that is the decayed key.
  Zeros<T> decay, decays, q, k, address, erase, nothing;

  explicit MatrixChunk(const MatrixScanJob<T>& of)
      : job(of),
        width(round_up<L>(of.keys)),
        decay(round_up<L>(of.chunk)),
        decays(of.channels ? of.chunk * width : 0),
        q(of.chunk * width),
        k(of.chunk * width),
        address(of.rule != Rule::kSum ? of.chunk * width : 0),
        erase(of.rule == Rule::kEdit ? of.chunk * width : 0),
        nothing(L * width) {}

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
    const int64_t size = sizeof(T) * job.keys;
    for (int64_t s = 0; s < count; ++s) {
      memcpy(q.data + s * width, job.q + (row(s) * job.query_heads + h % job.query_heads) * job.keys, size);
      memcpy(k.data + s * width, job.k + (row(s) * job.key_heads + h % job.key_heads) * job.keys, size);
      if (job.channels)
        exps(decays.data + s * width, job.log_decay + at(s) * job.keys, job.keys);
      else
        decay.data[s] = job.log_decay[at(s)];
      if (job.rule != Rule::kEdit) continue;
      memcpy(erase.data + s * width, job.erase + at(s) * job.keys, size);
      memcpy(address.data + s * width, job.address + at(s) * job.keys, size);
    }
    if (!job.channels) exps(decay.data, decay.data, count);
    if (job.rule != Rule::kDelta) return;
    for (int64_t s = 0; s < count; ++s)
      for (int64_t j = s * width; j < (s + 1) * width; j += L) {
        const Vec<T> kept = job.channels ? load<true>(decays.data + j, L) : splat<T>(decay.data[s]);
        store<true>(address.data + j, kept * load<true>(k.data + j, L), L);
      }
  }

 private:
  static void exps(T* to, const T* from, int64_t numbers) {
    over<T>(numbers, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      store<F>(to + i, exp<T>(load<F>(from + i, n)), n);
    });
  }
};

// Calls body(height, v) for tiles that cover the values, with the height as a constant: first tiles of as many rows as
// a vector has lanes, then the remaining rows one by one.
template <class T, class Body>
MEMSUITE_INLINE void over_values(int64_t values, Body body) {
  constexpr int L = Simd<T>::lanes;
  int64_t v = 0;
  for (; v + L <= values; v += L) body(std::integral_constant<int, L>{}, v);
  for (; v < values; ++v) body(std::integral_constant<int, 1>{}, v);
}

// Calls body(place, key, value) for all numbers of a state: `place` is where the tiles hold it.
template <class T, class Body>
MEMSUITE_INLINE void over_state(int64_t keys, int64_t values, int64_t width, Body body) {
  constexpr int L = Simd<T>::lanes;
  over_values<T>(values, [&](auto height, int64_t v) __attribute__((always_inline)) {
    constexpr int R = decltype(height)::value;
    for (int64_t k = 0; k < keys; ++k)
      for (int r = 0; r < R; ++r) body(v * width + k / L * L * R + r * L + k % L, k, v + r);
  });
}

// Brings a state [K][V] into tiles, with zeros beyond K.
template <class T>
void into_tiles(T* to, const T* from, int64_t keys, int64_t values, int64_t width) {
  memset(to, 0, sizeof(T) * values * width);
  over_state<T>(keys, values, width, [&](int64_t at, int64_t k, int64_t v) { to[at] = from[k * values + v]; });
}

template <class T>
void out_of_tiles(T* to, const T* from, int64_t keys, int64_t values, int64_t width) {
  over_state<T>(keys, values, width, [&](int64_t at, int64_t k, int64_t v) { to[k * values + v] = from[at]; });
}

// The decays of a step along the keys: one number for all, which stays in a register, or a row of them.
template <class T, bool Channels>
struct StepDecay {
  const T* row;
  Vec<T> of_head{};
  MEMSUITE_INLINE StepDecay(const MatrixChunk<T>& c, int64_t s) : row(c.decays.data + s * c.width) {
    if constexpr (!Channels) of_head = splat<T>(c.decay.data[s]);
  }
  MEMSUITE_INLINE Vec<T> at(int64_t j) const {
    if constexpr (Channels) return load<true>(row + j, Simd<T>::lanes);
    return of_head;
  }
};

// Finds what the state `from` holds at the address of a step, for values v to v + R. An edit notes what is found. The
// delta rule notes what it missed, the value less what is found, and writes beta times that.
template <class T, int R, Rule rule>
MEMSUITE_INLINE void matrix_find(const MatrixChunk<T>& c, int64_t s, int64_t v, const T* from, T* noted, T* written) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = c.width;
  const T* address = c.address.data + s * width;
  Vec<T> sums[R] = {};
  for (int64_t j = 0; j < width; j += L) {
    const Vec<T> at = load<true>(address + j, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] += at * load<true>(from + j * R + r * L, L);
  }
  const Vec<T> found = fold<R, T>(sums);
  if constexpr (rule == Rule::kEdit) {
    store<R == L>(noted, found, R);
  } else {
    const Vec<T> missed = load<R == L>(c.job.v + c.at(s) * c.job.values + v, R) - found;
    store<R == L>(noted, missed, R);
    store<R == L>(written, splat<T>(c.job.beta[c.at(s)]) * missed, R);
  }
}

// One step of rows v to v + R: to = decay * from + written k, less what an edit takes away. With Answer it also
// computes y from the new state. `noted` and `written` are room for what `matrix_find` finds.
template <class T, int R, Rule rule, bool Channels, bool Answer>
MEMSUITE_INLINE void matrix_advance(const MatrixChunk<T>& c, int64_t s, int64_t v, const T* state, T* to, T* noted,
                                    T* written) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = c.width;
  const T *q = c.q.data + s * width, *k = c.k.data + s * width, *erase = c.erase.data + s * width;
  const T *from = c.erased(s) ? c.nothing.data : state, *add = c.job.v + c.at(s) * c.job.values + v;
  if constexpr (rule != Rule::kSum) matrix_find<T, R, rule>(c, s, v, from, noted, written);
  if constexpr (rule == Rule::kDelta) add = written;
  const StepDecay<T, Channels> decays(c, s);
  Vec<T> sums[R] = {};
  for (int64_t j = 0; j < width; j += L) {
    const Vec<T> key = load<true>(k + j, L), query = load<true>(q + j, L), decay = decays.at(j);
    Vec<T> gone{};
    if constexpr (rule == Rule::kEdit) gone = load<true>(erase + j, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      Vec<T> made = decay * load<true>(from + j * R + r * L, L) + splat<T>(add[r]) * key;
      if constexpr (rule == Rule::kEdit) made -= splat<T>(noted[r]) * gone;
      store<true>(to + j * R + r * L, made, L);
      if constexpr (Answer) sums[r] += query * made;
    }
  }
  if constexpr (Answer) store<R == L>(c.job.y + c.at(s) * c.job.values + v, fold<R, T>(sums), R);
}

template <class T, int R, Rule rule, bool Channels>
__attribute__((noinline)) void matrix_tile(const MatrixChunk<T>& c, int64_t v, T* state) {
  T noted[Simd<T>::lanes], written[Simd<T>::lanes];
  for (int64_t s = 0; s < c.count; ++s)
    matrix_advance<T, R, rule, Channels, true>(c, s, v, state, state, noted, written);
}

// Takes heads [first, last) of B x H.
template <class T, Rule rule, bool Channels>
void matrix_forward(const MatrixScanJob<T>& job, int64_t first, int64_t last) {
  MatrixChunk<T> c(job);
  Scratch<T> state(job.values * c.width);
  for (int64_t n = first; n < last; ++n) {
    into_tiles(state.data, job.s0 + n * job.keys * job.values, job.keys, job.values, c.width);
    for (int64_t index = 0; index < c.chunks(); ++index) {
      c.take(index, n / job.heads, n % job.heads);
      out_of_tiles(c.state(job.states, index), state.data, job.keys, job.values, c.width);
      over_values<T>(job.values, [&](auto height, int64_t v) __attribute__((always_inline)) {
        matrix_tile<T, decltype(height)::value, rule, Channels>(c, v, state.data + v * c.width);
      });
    }
    out_of_tiles(job.last + n * job.keys * job.values, state.data, job.keys, job.values, c.width);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
