// The edited matrix state over a sequence, step by step: a state of this size stays in the first-level cache.
#pragma once

#include "common/fold.h"
#include "common/offer.h"
#include "delta_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// The vectors of one head at one step.
template <class T>
struct DeltaStep {
  const T *q, *k, *v, *erase, *address;
  const T* decay;  // exp of the job's log_decay, in scratch memory
};

template <class T>
MEMSUITE_INLINE DeltaStep<T> delta_step(const DeltaScanJob<T>& job, int64_t t, int64_t n, T* decay) {
  const int64_t row = t * job.batch * job.heads_each + n, at = row * job.keys;
  over<T>(job.keys, [&](auto full, int64_t i, int count) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    store<F>(decay + i, exp<T>(load<F>(job.log_decay + at + i, count)), count);
  });
  const bool erases = job.erase != nullptr;
  return {job.q + at,
          job.k + at,
          job.v + row * job.values,
          erases ? job.erase + at : nullptr,
          erases ? job.address + at : nullptr,
          decay};
}

template <class T>
MEMSUITE_INLINE bool delta_resets(const DeltaScanJob<T>& job, int64_t t, int64_t n) {
  return job.reset[t * job.batch + n / job.heads_each];
}

constexpr int64_t kAhead = 3;  // steps by which rows are prefetched: they lie too far apart for the processor to guess

template <class T>
MEMSUITE_INLINE void delta_prefetch(const T* rows, int64_t row, int64_t size) {
  if (rows == nullptr) return;
  for (int64_t i = 0; i < size; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(rows + row * size + i);
}

// Prefetches the inputs of one head at a step, or what its backward pass reads and writes besides.
template <class T>
MEMSUITE_INLINE void delta_prefetch_inputs(const DeltaScanJob<T>& job, int64_t t, int64_t n) {
  if (t >= job.steps) return;
  const int64_t row = t * job.batch * job.heads_each + n;
  const T* const all[] = {job.q, job.k, job.log_decay, job.erase, job.address};
  for (const T* rows : all) delta_prefetch(rows, row, job.keys);
  delta_prefetch(job.v, row, job.values);
}

template <class T>
MEMSUITE_INLINE void delta_prefetch_outputs(const DeltaScanJob<T>& job, int64_t t, int64_t n) {
  if (t < 0) return;
  const int64_t row = t * job.batch * job.heads_each + n;
  const T* const all[] = {job.d_q, job.d_k, job.d_log_decay, job.d_erase, job.d_address};
  for (const T* rows : all) delta_prefetch(rows, row, job.keys);
  delta_prefetch(job.grad, row, job.values);
  delta_prefetch<T>(job.d_v, row, job.values);
}

// found[V] = S^T address: what the state holds at the address.
template <class T>
MEMSUITE_INLINE void delta_found(const DeltaScanJob<T>& job, const T* state, const DeltaStep<T>& step, T* found) {
  over<T>(job.values, [&](auto full, int64_t j, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    Vec<T> sums[2] = {};
    for (int64_t i = 0; i < job.keys; ++i)
      sums[i & 1] += splat<T>(step.address[i]) * load<F>(state + i * job.values + j, n);
    store<F>(found + j, sums[0] + sums[1], n);
  });
}

// Advances the state by one step; `to` may be the state itself. If y is not null, it gets the output.
template <class T, bool Erase>
MEMSUITE_INLINE void delta_advance(const DeltaScanJob<T>& job, const T* state, T* to, const DeltaStep<T>& step,
                                   const T* found, T* y) {
  over<T>(job.values, [&](auto full, int64_t j, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> v = load<F>(step.v + j, n);
    Vec<T> u{}, sums[2] = {};
    if constexpr (Erase) u = load<F>(found + j, n);
    for (int64_t i = 0; i < job.keys; ++i) {
      Vec<T> row = splat<T>(step.decay[i]) * load<F>(state + i * job.values + j, n) + splat<T>(step.k[i]) * v;
      if constexpr (Erase) row -= splat<T>(step.erase[i]) * u;
      store<F>(to + i * job.values + j, row, n);
      sums[i & 1] += splat<T>(step.q[i]) * row;
    }
    if (y != nullptr) store<F>(y + j, sums[0] + sums[1], n);
  });
}

template <class T, bool Erase>
void delta_forward(const DeltaScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t size = job.keys * job.values, heads = job.batch * job.heads_each;
  Scratch<T> decay(job.keys), found(job.values);
  for (int64_t n = first; n < last; ++n) {
    T* state = job.last + n * size;
    memcpy(state, job.s0 + n * size, sizeof(T) * size);
    for (int64_t t = 0; t < job.steps; ++t) {
      if (t % job.chunk == 0) memcpy(job.states + (t / job.chunk * heads + n) * size, state, sizeof(T) * size);
      if (delta_resets(job, t, n)) memset(state, 0, sizeof(T) * size);
      delta_prefetch_inputs(job, t + kAhead, n);
      const DeltaStep<T> step = delta_step(job, t, n, decay.data);
      if constexpr (Erase) delta_found(job, state, step, found.data);
      delta_advance<T, Erase>(job, state, state, step, found.data, job.y + (t * heads + n) * job.values);
    }
  }
}

// Fills `before` with the state before each of `count` steps from `begin` on, with resets applied.
template <class T, bool Erase>
void delta_replay(const DeltaScanJob<T>& job, T* before, int64_t begin, int64_t count, int64_t n, T* decay, T* found) {
  const int64_t size = job.keys * job.values, heads = job.batch * job.heads_each;
  memcpy(before, job.states + (begin / job.chunk * heads + n) * size, sizeof(T) * size);
  for (int64_t at = 0; at < count; ++at) {
    T* state = before + at * size;
    if (delta_resets(job, begin + at, n)) memset(state, 0, sizeof(T) * size);
    if (at + 1 == count) break;
    delta_prefetch_inputs(job, begin + at + kAhead, n);
    const DeltaStep<T> step = delta_step(job, begin + at, n, decay);
    if constexpr (Erase) delta_found(job, state, step, found);
    delta_advance<T, Erase>(job, state, state + size, step, found, static_cast<T*>(nullptr));
  }
}

// What the gradients of one step are made of: the state before it, the gradient of the state after it, which becomes
// that of the state before, and where the vectors' gradients go.
template <class T>
struct DeltaGradient {
  const DeltaScanJob<T>& job;
  const DeltaStep<T>& step;
  const T *state, *found, *grad;
  T *d_state, *d_v;
  int64_t at;  // of the step's keys in the job's arrays
};

// Stores the sums of some rows of keys, or adds them to those of the columns of values before.
template <class T>
MEMSUITE_INLINE void delta_put(T* to, const Vec<T>* sums, Vec<T> factor, int rows, bool add) {
  Vec<T> sum = factor * fold<Simd<T>::lanes, T>(sums);
  if (add) sum += load<false>(to, rows);
  store<false>(to, sum, rows);
}

// The gradients from N vectors of values, from column j on; with N = 1 only `count` lanes are taken unless Full. What a
// column needs of the values stays in registers while all rows of keys pass.
template <class T, bool Erase, int N, bool Full>
MEMSUITE_INLINE void delta_columns(const DeltaGradient<T>& of, int64_t j, int count) {
  constexpr int L = Simd<T>::lanes;
  const DeltaScanJob<T>& job = of.job;
  const DeltaStep<T>& step = of.step;
  const int64_t V = job.values;
  Vec<T> v[N], g[N], u[N] = {}, d_v[N] = {}, d_u[N] = {};
  for (int c = 0; c < N; ++c) {
    v[c] = load<Full>(step.v + j + c * L, count), g[c] = load<Full>(of.grad + j + c * L, count);
    if constexpr (Erase) u[c] = load<Full>(of.found + j + c * L, count);
  }
  for (int64_t first = 0; first < job.keys; first += L) {
    const int rows = lanes_of<T>(job.keys - first);
    Vec<T> for_q[L] = {}, for_k[L] = {}, for_decay[L] = {}, for_erase[L] = {};
    for (int r = 0; r < rows; ++r) {
      const int64_t i = first + r;
      const Vec<T> a = splat<T>(step.decay[i]), k = splat<T>(step.k[i]), q = splat<T>(step.q[i]);
      Vec<T> e{}, sum_q{}, sum_k{}, sum_decay{}, sum_erase{};
      if constexpr (Erase) e = splat<T>(step.erase[i]);
      for (int c = 0; c < N; ++c) {
        T* d_row = of.d_state + i * V + j + c * L;
        const Vec<T> old = load<Full>(of.state + i * V + j + c * L, count), d = load<Full>(d_row, count) + q * g[c];
        Vec<T> now = a * old + k * v[c];
        if constexpr (Erase) now -= e * u[c], sum_erase -= d * u[c], d_u[c] -= e * d;
        sum_q += now * g[c];
        sum_k += d * v[c];
        sum_decay += d * old;
        d_v[c] += k * d;
        store<Full>(d_row, Erase ? d : a * d, count);
      }
      for_q[r] = sum_q, for_k[r] = sum_k, for_decay[r] = sum_decay, for_erase[r] = sum_erase;
    }
    const Vec<T> one = splat<T>(1), decays = load<false>(step.decay + first, rows);
    delta_put(job.d_q + of.at + first, for_q, one, rows, j > 0);
    delta_put(job.d_k + of.at + first, for_k, one, rows, j > 0);
    delta_put(job.d_log_decay + of.at + first, for_decay, decays, rows, j > 0);
    if constexpr (Erase) delta_put(job.d_erase + of.at + first, for_erase, one, rows, j > 0);
  }
  for (int c = 0; c < N; ++c) store<Full>(of.d_v + j + c * L, d_v[c], count);
  if constexpr (Erase) {
    for (int64_t first = 0; first < job.keys; first += L) {
      const int rows = lanes_of<T>(job.keys - first);
      Vec<T> for_address[L] = {};
      for (int r = 0; r < rows; ++r) {
        const int64_t i = first + r;
        const Vec<T> a = splat<T>(step.decay[i]), address = splat<T>(step.address[i]);
        Vec<T> sum{};
        for (int c = 0; c < N; ++c) {
          T* d_row = of.d_state + i * V + j + c * L;
          sum += load<Full>(of.state + i * V + j + c * L, count) * d_u[c];
          store<Full>(d_row, a * load<Full>(d_row, count) + address * d_u[c], count);
        }
        for_address[r] = sum;
      }
      delta_put(job.d_address + of.at + first, for_address, splat<T>(1), rows, j > 0);
    }
  }
}

// The gradients of one step. On entry d_state is the gradient of the state after it, on return of the state before it.
template <class T, bool Erase>
MEMSUITE_INLINE void delta_gradients(const DeltaScanJob<T>& job, int64_t t, int64_t n, const T* state, T* d_state,
                                     const DeltaStep<T>& step, T* found) {
  const int64_t row = t * job.batch * job.heads_each + n, V = job.values;
  constexpr int L = Simd<T>::lanes;
  if constexpr (Erase) delta_found(job, state, step, found);
  const DeltaGradient<T> of{job, step, state, found, job.grad + row * V, d_state, job.d_v + row * V, row * job.keys};
  int64_t j = 0;
  for (; j + 2 * L <= V; j += 2 * L) delta_columns<T, Erase, 2, true>(of, j, L);
  for (; j + L <= V; j += L) delta_columns<T, Erase, 1, true>(of, j, L);
  if (j < V) delta_columns<T, Erase, 1, false>(of, j, static_cast<int>(V - j));
}

template <class T, bool Erase>
void delta_backward(const DeltaScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t size = job.keys * job.values, chunks = (job.steps + job.chunk - 1) / job.chunk;
  Scratch<T> decay(job.keys), found(job.values), before(job.chunk * size);
  for (int64_t n = first; n < last; ++n) {
    T* d_state = job.d_s0 + n * size;
    memcpy(d_state, job.grad_last + n * size, sizeof(T) * size);
    for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      const int64_t begin = chunk * job.chunk, left = job.steps - begin;
      const int64_t count = left < job.chunk ? left : job.chunk;
      delta_replay<T, Erase>(job, before.data, begin, count, n, decay.data, found.data);
      for (int64_t at = count - 1; at >= 0; --at) {
        delta_prefetch_outputs(job, begin + at - kAhead, n);
        const DeltaStep<T> step = delta_step(job, begin + at, n, decay.data);
        delta_gradients<T, Erase>(job, begin + at, n, before.data + at * size, d_state, step, found.data);
        if (delta_resets(job, begin + at, n)) memset(d_state, 0, sizeof(T) * size);
      }
    }
  }
}

template <class T>
struct Offer<DeltaScanKernels<T>> {
  static constexpr DeltaScanKernels<T> all() {
    DeltaScanKernels<T> all{};
    all.forward[0] = delta_forward<T, false>;
    all.forward[1] = delta_forward<T, true>;
    all.backward[0] = delta_backward<T, false>;
    all.backward[1] = delta_backward<T, true>;
    return all;
  }
};
template const DeltaScanKernels<float>& offered();
template const DeltaScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
