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

// The gradients of one step. On entry d_state is the gradient of the state after it, on return of the state before it.
template <class T, bool Erase>
MEMSUITE_INLINE void delta_gradients(const DeltaScanJob<T>& job, int64_t t, int64_t n, const T* state, T* d_state,
                                     const DeltaStep<T>& step, T* found, T* d_found) {
  const int64_t row = t * job.batch * job.heads_each + n, at = row * job.keys, V = job.values;
  const T* grad = job.grad + row * V;
  T* d_v = job.d_v + row * V;
  memset(d_v, 0, sizeof(T) * V);
  if constexpr (Erase) {
    delta_found(job, state, step, found);
    memset(d_found, 0, sizeof(T) * V);
  }
  constexpr int L = Simd<T>::lanes;  // rows of keys whose sums over the values are taken together
  for (int64_t first = 0; first < job.keys; first += L) {
    const int rows = lanes_of<T>(job.keys - first);
    Vec<T> for_q[L] = {}, for_k[L] = {}, for_decay[L] = {}, for_erase[L] = {};
    for (int r = 0; r < rows; ++r) {
      const int64_t i = first + r;
      const Vec<T> a = splat<T>(step.decay[i]), k = splat<T>(step.k[i]), q = splat<T>(step.q[i]);
      Vec<T> e{}, sum_q{}, sum_k{}, sum_decay{}, sum_erase{};
      if constexpr (Erase) e = splat<T>(step.erase[i]);
      over<T>(V, [&](auto full, int64_t j, int count) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> old = load<F>(state + i * V + j, count), v = load<F>(step.v + j, count);
        const Vec<T> g = load<F>(grad + j, count), d = load<F>(d_state + i * V + j, count) + q * g;
        Vec<T> now = a * old + k * v;
        if constexpr (Erase) {
          const Vec<T> u = load<F>(found + j, count);
          now -= e * u;
          sum_erase -= d * u;
          store<F>(d_found + j, load<F>(d_found + j, count) - e * d, count);
        }
        sum_q += now * g;
        sum_k += d * v;
        sum_decay += d * old;
        store<F>(d_v + j, load<F>(d_v + j, count) + k * d, count);
        store<F>(d_state + i * V + j, Erase ? d : a * d, count);
      });
      for_q[r] = sum_q, for_k[r] = sum_k, for_decay[r] = sum_decay, for_erase[r] = sum_erase;
    }
    store<false>(job.d_q + at + first, fold<L, T>(for_q), rows);
    store<false>(job.d_k + at + first, fold<L, T>(for_k), rows);
    const Vec<T> decays = load<false>(step.decay + first, rows);
    store<false>(job.d_log_decay + at + first, decays * fold<L, T>(for_decay), rows);
    if constexpr (Erase) store<false>(job.d_erase + at + first, fold<L, T>(for_erase), rows);
  }
  if constexpr (Erase) {
    for (int64_t first = 0; first < job.keys; first += L) {
      const int rows = lanes_of<T>(job.keys - first);
      Vec<T> for_address[L] = {};
      for (int r = 0; r < rows; ++r) {
        const int64_t i = first + r;
        const Vec<T> a = splat<T>(step.decay[i]), address = splat<T>(step.address[i]);
        Vec<T> sum{};
        over<T>(V, [&](auto full, int64_t j, int count) __attribute__((always_inline)) {
          constexpr bool F = decltype(full)::value;
          const Vec<T> d_u = load<F>(d_found + j, count);
          sum += load<F>(state + i * V + j, count) * d_u;
          store<F>(d_state + i * V + j, a * load<F>(d_state + i * V + j, count) + address * d_u, count);
        });
        for_address[r] = sum;
      }
      store<false>(job.d_address + at + first, fold<L, T>(for_address), rows);
    }
  }
}

template <class T, bool Erase>
void delta_backward(const DeltaScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t size = job.keys * job.values, chunks = (job.steps + job.chunk - 1) / job.chunk;
  Scratch<T> decay(job.keys), found(job.values), d_found(job.values), before(job.chunk * size);
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
        delta_gradients<T, Erase>(job, begin + at, n, before.data + at * size, d_state, step, found.data, d_found.data);
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
