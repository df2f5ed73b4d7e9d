// One step of the matrix-state recurrence, S' = a S + k w^T and y = S'^T q, with w = v, or with the delta rule
// w = beta (v - a S^T k). A state is read and written once: with many environments side by side it comes from memory,
// and the time of the step is the time of that traffic. The values lie along the lanes.
#pragma once

#include "common/fold.h"
#include "common/offer.h"
#include "matrix_step/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// One head of one row of the batch.
template <class T>
struct MatrixHead {
  const MatrixStepJob<T>& job;
  const int64_t at, query_at, key_at;
  const T *q, *k, *v, *s;
  const T decay;

  MEMSUITE_INLINE MatrixHead(const MatrixStepJob<T>& of, int64_t b, int64_t h)
      : job(of),
        at(b * of.heads + h),
        query_at((b * of.query_heads + h % of.query_heads) * of.keys),
        key_at((b * of.key_heads + h % of.key_heads) * of.keys),
        q(of.q + query_at),
        k(of.k + key_at),
        v(of.v + at * of.values),
        s(of.s + at * of.keys * of.values),
        decay(exp<T>(splat<T>(of.log_decay[at]))[0]) {}

  // The sums over the keys of weights[k] rows[k][v], for all values.
  MEMSUITE_INLINE void recall(const T* weights, const T* rows, T* out) const {
    over<T>(job.values, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      Vec<T> sum{};
      for (int64_t j = 0; j < job.keys; ++j) sum += splat<T>(weights[j]) * load<F>(rows + j * job.values + i, n);
      store<F>(out + i, sum, n);
    });
  }

  // What the step writes under its key; with the delta rule also what it missed, v - a S^T k.
  template <bool Delta>
  MEMSUITE_INLINE const T* written(T* missed, T* room) const {
    if constexpr (!Delta) {
      return v;
    } else {
      recall(k, s, missed);
      for (int64_t i = 0; i < job.values; ++i) missed[i] = v[i] - decay * missed[i];
      for (int64_t i = 0; i < job.values; ++i) room[i] = job.beta[at] * missed[i];
      return room;
    }
  }
};

template <class T, bool Delta>
void matrix_step_forward(const MatrixStepJob<T>& job, int64_t first, int64_t last) {
  Scratch<T> missed(job.values), room(job.values);
  for (int64_t n = first * job.heads; n < last * job.heads; ++n) {
    const MatrixHead<T> head(job, n / job.heads, n % job.heads);
    const T* w = head.template written<Delta>(missed.data, room.data);
    T *next = job.next + n * job.keys * job.values, *y = job.y + n * job.values;
    memset(y, 0, sizeof(T) * job.values);
    for (int64_t j = 0; j < job.keys; ++j) {
      const int64_t row = j * job.values;
      over<T>(job.values, [&](auto full, int64_t i, int c) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> made =
            splat<T>(head.decay) * load<F>(head.s + row + i, c) + splat<T>(head.k[j]) * load<F>(w + i, c);
        store<F>(next + row + i, made, c);
        store<F>(y + i, load<F>(y + i, c) + splat<T>(head.q[j]) * made, c);
      });
    }
  }
}

// The gradient of the new state is grad_next + q grad^T. Heads that share queries or keys add to one gradient, in
// order.
template <class T, bool Delta>
void matrix_step_backward(const MatrixStepJob<T>& job, int64_t first, int64_t last) {
  const int64_t K = job.keys, V = job.values;
  Scratch<T> missed(V), room(V), d_written(V), d_recalled(V);
  memset(job.d_q + first * job.query_heads * K, 0, sizeof(T) * (last - first) * job.query_heads * K);
  memset(job.d_k + first * job.key_heads * K, 0, sizeof(T) * (last - first) * job.key_heads * K);
  for (int64_t n = first * job.heads; n < last * job.heads; ++n) {
    const MatrixHead<T> head(job, n / job.heads, n % job.heads);
    const T* w = head.template written<Delta>(missed.data, room.data);
    const T *g = job.grad + n * V, *flow = job.grad_next + n * K * V;
    T *d_q = job.d_q + head.query_at, *d_k = job.d_k + head.key_at, *d_s = job.d_s + n * K * V;
    head.recall(head.k, flow, d_written.data);
    T product = 0, d_decay = 0, d_beta = 0;
    for (int64_t j = 0; j < K; ++j) product += head.q[j] * head.k[j];
    for (int64_t i = 0; i < V; ++i) {
      const T d_w = d_written.data[i] + product * g[i];
      job.d_v[n * V + i] = Delta ? job.beta[n] * d_w : d_w;
      if constexpr (Delta) {
        d_beta += d_w * missed.data[i];
        const T back = job.beta[n] * d_w;  // of what was missed
        d_decay -= back * (head.v[i] - missed.data[i]);
        d_recalled.data[i] = -head.decay * back;
      }
    }
    Vec<T> through{};
    for (int64_t j = 0; j < K; ++j) {
      const int64_t row = j * V;
      Vec<T> to_q{}, to_k{};
      over<T>(V, [&](auto full, int64_t i, int c) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> s = load<F>(head.s + row + i, c), wrote = load<F>(w + i, c), grad = load<F>(g + i, c);
        const Vec<T> total = load<F>(flow + row + i, c) + splat<T>(head.q[j]) * grad;
        to_q += (splat<T>(head.decay) * s + splat<T>(head.k[j]) * wrote) * grad;
        to_k += total * wrote;
        through += total * s;
        Vec<T> down = splat<T>(head.decay) * total;
        if constexpr (Delta) {
          const Vec<T> recalled = load<F>(d_recalled.data + i, c);
          to_k += s * recalled;
          down += splat<T>(head.k[j]) * recalled;
        }
        store<F>(d_s + row + i, down, c);
      });
      d_q[j] += sum_of_lanes<T>(to_q);
      d_k[j] += sum_of_lanes<T>(to_k);
    }
    job.d_log_decay[n] = head.decay * sum_of_lanes<T>(through) + d_decay;
    if constexpr (Delta) job.d_beta[n] = d_beta;
  }
}

template <class T>
struct Offer<MatrixStepKernels<T>> {
  static constexpr MatrixStepKernels<T> all() {
    MatrixStepKernels<T> all{};
    all.forward[0] = matrix_step_forward<T, false>;
    all.forward[1] = matrix_step_forward<T, true>;
    all.backward[0] = matrix_step_backward<T, false>;
    all.backward[1] = matrix_step_backward<T, true>;
    return all;
  }
};
template const MatrixStepKernels<float>& offered();
template const MatrixStepKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
