// One step of the matrix-state recurrence, S' = a S + k w^T and y = S'^T q, with w = v, or with the delta rule
// w = beta (v - (a k)^T S), or with an edit w = v and less e (r^T S). A state is read and written once: with many
// environments side by side it comes from memory, and the time of the step is the time of that traffic. The values lie
// along the lanes.
#pragma once

#include "common/fold.h"
#include "common/offer.h"
#include "matrix_step/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// Room for what one head of one row of the batch computes for its keys and its values.
template <class T>
struct MatrixRoom {
  Scratch<T> decays, address, noted, written, d_written, d_found;
  explicit MatrixRoom(const MatrixStepJob<T>& job)
      : decays(job.keys),
        address(job.keys),
        noted(job.values),
        written(job.values),
        d_written(job.values),
        d_found(job.values) {}
};

// One head of one row of the batch: where its vectors lie, its decays, and what the step finds and writes. An edit
// notes what it found; the delta rule notes what it missed, the value less what it found.
template <class T, Rule rule>
struct MatrixHead {
  const MatrixStepJob<T>& job;
  const int64_t at, query_at, key_at;
  const T *q, *k, *v, *s;
  const T *decays, *address, *erase, *noted, *written;

  MEMSUITE_INLINE MatrixHead(const MatrixStepJob<T>& of, const MatrixRoom<T>& room, int64_t n)
      : job(of),
        at(n),
        query_at((n / of.heads * of.query_heads + n % of.heads % of.query_heads) * of.keys),
        key_at((n / of.heads * of.key_heads + n % of.heads % of.key_heads) * of.keys),
        q(of.q + query_at),
        k(of.k + key_at),
        v(of.v + n * of.values),
        s(of.s + n * of.keys * of.values),
        decays(room.decays.data),
        address(rule == Rule::kEdit ? of.address + n * of.keys : room.address.data),
        erase(rule == Rule::kEdit ? of.erase + n * of.keys : nullptr),
        noted(room.noted.data),
        written(rule == Rule::kDelta ? room.written.data : v) {
    if (job.channels) {
      over<T>(job.keys, [&](auto full, int64_t j, int c) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        store<F>(room.decays.data + j, exp<T>(load<F>(job.log_decay + at * job.keys + j, c)), c);
      });
    } else {
      const T decay = exp<T>(splat<T>(job.log_decay[at]))[0];
      for (int64_t j = 0; j < job.keys; ++j) room.decays.data[j] = decay;
    }
    if constexpr (rule == Rule::kSum) return;
    if constexpr (rule == Rule::kDelta)
      for (int64_t j = 0; j < job.keys; ++j) room.address.data[j] = decays[j] * k[j];
    recall(address, s, room.noted.data);
    if constexpr (rule == Rule::kDelta) {
      for (int64_t i = 0; i < job.values; ++i) room.noted.data[i] = v[i] - noted[i];
      for (int64_t i = 0; i < job.values; ++i) room.written.data[i] = job.beta[at] * noted[i];
    }
  }

  // The sums over the keys of weights[j] rows[j][v], for all values.
  MEMSUITE_INLINE void recall(const T* weights, const T* rows, T* out) const {
    over<T>(job.values, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
      constexpr bool F = decltype(full)::value;
      Vec<T> sum{};
      for (int64_t j = 0; j < job.keys; ++j) sum += splat<T>(weights[j]) * load<F>(rows + j * job.values + i, n);
      store<F>(out + i, sum, n);
    });
  }

  // The gradient of a vector of values that the step adds to the state along `weights`, where that of the new state is
  // flow + q grad^T.
  MEMSUITE_INLINE void received(const T* weights, const T* flow, const T* grad, T* out) const {
    T product = 0;
    for (int64_t j = 0; j < job.keys; ++j) product += q[j] * weights[j];
    recall(weights, flow, out);
    for (int64_t i = 0; i < job.values; ++i) out[i] += product * grad[i];
  }

  // `count` values of row j of the new state from value i on, where `old` holds those of the old state.
  template <bool Full>
  MEMSUITE_INLINE Vec<T> made(Vec<T> old, int64_t j, int64_t i, int count) const {
    Vec<T> row = splat<T>(decays[j]) * old + splat<T>(k[j]) * load<Full>(written + i, count);
    if constexpr (rule == Rule::kEdit) row -= splat<T>(erase[j]) * load<Full>(noted + i, count);
    return row;
  }
};

template <class T, Rule rule>
void matrix_step_forward(const MatrixStepJob<T>& job, int64_t first, int64_t last) {
  const MatrixRoom<T> room(job);
  for (int64_t n = first * job.heads; n < last * job.heads; ++n) {
    const MatrixHead<T, rule> head(job, room, n);
    T *next = job.next + n * job.keys * job.values, *y = job.y + n * job.values;
    memset(y, 0, sizeof(T) * job.values);
    for (int64_t j = 0; j < job.keys; ++j) {
      const int64_t row = j * job.values;
      over<T>(job.values, [&](auto full, int64_t i, int c) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> made = head.template made<F>(load<F>(head.s + row + i, c), j, i, c);
        store<F>(next + row + i, made, c);
        store<F>(y + i, load<F>(y + i, c) + splat<T>(head.q[j]) * made, c);
      });
    }
  }
}

// The gradients of row j of the state, and of what belongs to its key. Returns that of the logarithm of its decay.
template <class T, Rule rule>
MEMSUITE_INLINE T matrix_row_back(const MatrixHead<T, rule>& head, const MatrixRoom<T>& room, int64_t j) {
  const MatrixStepJob<T>& job = head.job;
  const int64_t n = head.at, row = (n * job.keys + j) * job.values;
  const T *g = job.grad + n * job.values, *old = job.s + row, *flow = job.grad_next + row;
  Vec<T> to_q{}, to_k{}, to_decay{}, to_erase{}, to_address{};
  over<T>(job.values, [&](auto full, int64_t i, int c) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> s = load<F>(old + i, c), grad = load<F>(g + i, c);
    const Vec<T> total = load<F>(flow + i, c) + splat<T>(head.q[j]) * grad;
    to_q += head.template made<F>(s, j, i, c) * grad;
    to_k += total * load<F>(head.written + i, c);
    to_decay += total * s;
    Vec<T> down = splat<T>(head.decays[j]) * total;
    if constexpr (rule == Rule::kEdit) to_erase -= total * load<F>(head.noted + i, c);
    if constexpr (rule != Rule::kSum) {
      const Vec<T> d_found = load<F>(room.d_found.data + i, c);
      to_address += s * d_found;
      down += splat<T>(head.address[j]) * d_found;
    }
    store<F>(job.d_s + row + i, down, c);
  });
  T d_key = sum_of_lanes<T>(to_k), d_log = head.decays[j] * sum_of_lanes<T>(to_decay);
  if constexpr (rule == Rule::kDelta) {  // the address is the decayed key
    const T d_address = sum_of_lanes<T>(to_address);
    d_key += head.decays[j] * d_address;
    d_log += head.address[j] * d_address;
  } else if constexpr (rule == Rule::kEdit) {
    job.d_erase[n * job.keys + j] = sum_of_lanes<T>(to_erase);
    job.d_address[n * job.keys + j] = sum_of_lanes<T>(to_address);
  }
  job.d_q[head.query_at + j] += sum_of_lanes<T>(to_q);
  job.d_k[head.key_at + j] += d_key;
  return d_log;
}

// Heads that share queries or keys add to one gradient, in order.
template <class T, Rule rule>
void matrix_step_backward(const MatrixStepJob<T>& job, int64_t first, int64_t last) {
  const int64_t K = job.keys, V = job.values;
  const MatrixRoom<T> room(job);
  memset(job.d_q + first * job.query_heads * K, 0, sizeof(T) * (last - first) * job.query_heads * K);
  memset(job.d_k + first * job.key_heads * K, 0, sizeof(T) * (last - first) * job.key_heads * K);
  for (int64_t n = first * job.heads; n < last * job.heads; ++n) {
    const MatrixHead<T, rule> head(job, room, n);
    const T *g = job.grad + n * V, *flow = job.grad_next + n * K * V;
    T *d_v = job.d_v + n * V, *d_found = room.d_found.data;
    if constexpr (rule == Rule::kDelta) {
      const T *d_written = room.d_written.data, beta = job.beta[n];
      head.received(head.k, flow, g, room.d_written.data);
      T d_beta = 0;
      for (int64_t i = 0; i < V; ++i) {
        d_beta += d_written[i] * head.noted[i];
        d_v[i] = beta * d_written[i];
        d_found[i] = -d_v[i];
      }
      job.d_beta[n] = d_beta;
    } else {
      head.received(head.k, flow, g, d_v);
    }
    if constexpr (rule == Rule::kEdit) {
      head.received(head.erase, flow, g, d_found);
      for (int64_t i = 0; i < V; ++i) d_found[i] = -d_found[i];
    }
    T sum = 0;
    for (int64_t j = 0; j < K; ++j) {
      const T d_log = matrix_row_back(head, room, j);
      if (job.channels) job.d_log_decay[n * K + j] = d_log;
      sum += d_log;
    }
    if (!job.channels) job.d_log_decay[n] = sum;
  }
}

template <class T>
struct Offer<MatrixStepKernels<T>> {
  static constexpr MatrixStepKernels<T> all() {
    return {
        {matrix_step_forward<T, Rule::kSum>, matrix_step_forward<T, Rule::kDelta>, matrix_step_forward<T, Rule::kEdit>},
        {matrix_step_backward<T, Rule::kSum>, matrix_step_backward<T, Rule::kDelta>,
         matrix_step_backward<T, Rule::kEdit>}};
  }
};
template const MatrixStepKernels<float>& offered();
template const MatrixStepKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
