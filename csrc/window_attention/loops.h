// Causal attention of each query to the newest keys up to its own.
#pragma once

#include "common/offer.h"
#include "window_attention/blocks.h"
#include "window_attention/relative.h"

namespace memsuite::MEMSUITE_LEVEL {

// Turns a row of scores into exp(score - shift) for keys [first, last), with zeros for the other keys of the block.
// Returns the sum.
template <class T>
T window_exp(T* row, int64_t width, int64_t first, int64_t last, T shift) {
  Vec<T> sum{};
  memset(row, 0, sizeof(T) * first);
  memset(row + last, 0, sizeof(T) * (width - last));
  over<T>(last - first, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    const Vec<T> made = exp<T>(load<F>(row + first + i, n) - splat(shift));
    store<F>(row + first + i, made, n);
    if constexpr (F) {
      sum += made;
    } else {
      for (int l = 0; l < n; ++l) sum[l] += made[l];
    }
  });
  return sum_of_lanes<T>(sum);
}

template <class T>
T window_max(const T* row, int64_t first, int64_t last) {
  Vec<T> all = splat(row[first]);
  over<T>(last - first, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    if constexpr (decltype(full)::value) {
      const Vec<T> next = load<true>(row + first + i, n);
      all = next > all ? next : all;
    } else {
      for (int l = 0; l < n; ++l) all[0] = row[first + i + l] > all[0] ? row[first + i + l] : all[0];
    }
  });
  T most = all[0];
  for (int l = 1; l < Simd<T>::lanes; ++l) most = all[l] > most ? all[l] : most;
  return most;
}

template <class T>
void window_forward(const WindowAttentionJob<T>& job, int64_t first, int64_t last) {
  WindowHead<T> head{job};
  const int64_t size = job.size, keys = head.keys();
  const T scale = 1 / __builtin_sqrt(static_cast<T>(size));
  Scratch<T> k(size * round_up<head.columns>(keys)), v(keys * round_up<head.columns>(size)), scales(kBlockRows);
  WindowBias<T> bias(head);
  WindowRelative<T> relative(head, false);
  WindowScores<T> scores(window_scores(job));
  Pointers<const T> q;
  Pointers<T> y;
  for (int64_t i = 0; i < kBlockRows; ++i) scales.data[i] = scale;
  for (int64_t n = first; n < last; ++n) {
    head.b = n / job.heads, head.h = n % job.heads;
    head.pack_across(k.data, job.k);
    head.pack_along(v.data, job.v);
    relative.begin_head();
    for (int64_t t = 0; t < job.steps;) {
      const WindowBlock<T> block(head, t);
      scores.set(block, block.width);
      for (int64_t i = 0; i < block.count; ++i) {
        q.at[i] = job.q + head.row(t + i) * size;
        y.at[i] = job.y + head.row(t + i) * size;
      }
      product(Product<T>{q.at, size, block.width, scores.at.at, scales.data}, k.data + block.from * size, block.count);
      relative.begin_block(block, scales.data);
      for (int64_t i = 0; i < block.count; ++i) {
        T* row = scores.at.at[i];
        const int64_t begin = head.oldest(t + i) - block.from, end = head.newest(t + i) + 1 - block.from;
        bias.add(row, block, i, begin, end);
        relative.add(row, block, i, begin, end);
        const T most = window_max(row, begin, end), sum = window_exp(row, block.width, begin, end, most);
        job.total[head.row(t + i)] = most + __builtin_log(sum);
        scale_row(row + begin, 1 / sum, end - begin);
      }
      product_along(scores.rows(), y.at, v.data, keys, size, block.from, block.width, block.count);
      t += block.count;
    }
  }
}

// d_scores = weights (d_weights - mean) scale, in place of d_weights.
template <class T>
MEMSUITE_INLINE void window_softmax_back(T* d_row, const T* weights, int64_t width, T mean, T scale) {
  over<T>(width, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    store<F>(d_row + i, splat(scale) * load<F>(weights + i, n) * (load<F>(d_row + i, n) - splat(mean)), n);
  });
}

template <class T>
void window_backward(const WindowAttentionJob<T>& job, int64_t first, int64_t last) {
  WindowHead<T> head{job};
  const int64_t size = job.size, keys = head.keys(), across = size * round_up<head.columns>(keys);
  const T scale = 1 / __builtin_sqrt(static_cast<T>(size));
  Scratch<T> k_across(across), v_across(across), k_along(keys * round_up<head.columns>(size)), scales(kBlockRows);
  Scratch<T> d_k(keys * size), d_v(keys * size), numbers(kBlockRows * kOuterRows);
  Scratch<T> columns(kBlockRows * round_up<head.columns>(size)), d_bias(job.bias ? keys : 0);
  WindowBias<T> bias(head);
  WindowRelative<T> relative(head, true);
  WindowScores<T> weights(window_scores(job)), flows(window_scores(job));
  Pointers<const T> q, grad;
  Pointers<T> d_q;
  for (int64_t i = 0; i < kBlockRows; ++i) scales.data[i] = scale;
  for (int64_t n = first; n < last; ++n) {
    head.b = n / job.heads, head.h = n % job.heads;
    head.pack_across(k_across.data, job.k);
    head.pack_across(v_across.data, job.v);
    head.pack_along(k_along.data, job.k);
    relative.begin_head();
    memset(d_k.data, 0, sizeof(T) * keys * size);
    memset(d_v.data, 0, sizeof(T) * keys * size);
    if (job.bias) memset(d_bias.data, 0, sizeof(T) * keys);
    for (int64_t t = 0; t < job.steps;) {
      const WindowBlock<T> block(head, t);
      weights.set(block, block.width);
      flows.set(block, block.width);
      for (int64_t i = 0; i < block.count; ++i) {
        const int64_t at = head.row(t + i) * size;
        q.at[i] = job.q + at, grad.at[i] = job.grad + at, d_q.at[i] = job.d_q + at;
      }
      product(Product<T>{q.at, size, block.width, weights.at.at, scales.data}, k_across.data + block.from * size,
              block.count);
      product(Product<T>{grad.at, size, block.width, flows.at.at}, v_across.data + block.from * size, block.count);
      relative.begin_block(block, scales.data);
      for (int64_t i = 0; i < block.count; ++i) {
        const int64_t begin = head.oldest(t + i) - block.from, end = head.newest(t + i) + 1 - block.from;
        const T mean = sum_over(grad.at[i], job.y + head.row(t + i) * size, size);
        bias.add(weights.at.at[i], block, i, begin, end);
        relative.add(weights.at.at[i], block, i, begin, end);
        window_exp(weights.at.at[i], block.width, begin, end, job.total[head.row(t + i)]);
        window_softmax_back(flows.at.at[i], weights.at.at[i], block.width, mean, scale);
        relative.take(flows.at.at[i], block, i, begin, end);
        if (job.bias) add_row(d_bias.data + block.from, flows.at.at[i], block.width);
      }
      product_along(flows.rows(), d_q.at, k_along.data, keys, size, block.from, block.width, block.count);
      const int64_t from = block.from * size;
      add_outer(d_k.data + from, flows.rows(), block.width, q.at, size, block.count, columns.data, numbers.data);
      add_outer(d_v.data + from, weights.rows(), block.width, grad.at, size, block.count, columns.data, numbers.data);
      relative.end_block(block, columns.data, numbers.data);
      t += block.count;
    }
    relative.end_head();
    for (int64_t s = 0; s < keys; ++s) {
      memcpy(job.d_k + head.row(s) * size, d_k.data + s * size, sizeof(T) * size);
      memcpy(job.d_v + head.row(s) * size, d_v.data + s * size, sizeof(T) * size);
      if (job.bias) job.d_bias[head.row(s)] = d_bias.data[s] / scale;
    }
  }
}

template <class T>
struct Offer<WindowAttentionKernels<T>> {
  static constexpr WindowAttentionKernels<T> all() {
    WindowAttentionKernels<T> all{};
    all.forward = window_forward<T>;
    all.backward = window_backward<T>;
    return all;
  }
};
template const WindowAttentionKernels<float>& offered();
template const WindowAttentionKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
