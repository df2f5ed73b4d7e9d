// Causal attention of each query to the newest keys up to its own.
//
// The keys and values of one head are packed once. Then come blocks of queries, each with the scores of the keys that
// any of its queries sees. A block has fewer queries where these are many, so that its scores stay in the second-level
// cache.
#pragma once

#include "common/offer.h"
#include "common/packing_loops.h"
#include "common/rows.h"
#include "window_attention/job.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int64_t kQueries = 48;      // of a block at most; with more, more scores of keys that are too new are wasted
constexpr int64_t kScores = 1 << 15;  // of a block, where it has more than one tile of queries

// One head: where its rows are, and its packed keys or values.
template <class T>
struct WindowHead {
  static constexpr int64_t columns = 2 * Simd<T>::lanes;  // keys of a packed block
  const WindowAttentionJob<T>& job;
  int64_t b = 0, h = 0;

  int64_t keys() const { return job.before + job.steps; }
  int64_t row(int64_t step) const { return (step * job.batch + b) * job.heads + h; }
  int64_t oldest(int64_t t) const { return job.before + t - job.age[t * job.batch + b]; }
  int64_t newest(int64_t t) const { return job.before + t; }

  // Packs rows [keys, size] for products with their transpose, which give one number for each key.
  void pack_across(T* to, const T* from) const {
    pack_strided<T, 2>(to, from + row(0) * job.size, job.size, keys(), 1, job.batch * job.heads * job.size);
  }

  // Packs the same rows for products with them, which give sums over keys. Each block of columns has all keys.
  void pack_along(T* to, const T* from) const {
    pack_strided<T, 2>(to, from + row(0) * job.size, keys(), job.size, job.batch * job.heads * job.size, 1);
  }
};

// Queries [begin, begin + count) and the keys [from, from + width) that any of them sees; `from` is a multiple of the
// keys of a packed block.
template <class T>
struct WindowBlock {
  int64_t begin, count, from, width;

  WindowBlock(const WindowHead<T>& head, int64_t at) : begin(at), count(1) {
    int64_t oldest = head.oldest(at);
    from = oldest / head.columns * head.columns;
    width = head.newest(at) + 1 - from;
    while (begin + count < head.job.steps && count < kQueries) {
      const int64_t next = head.oldest(begin + count), first = next < oldest ? next : oldest;
      const int64_t start = first / head.columns * head.columns, wide = head.newest(begin + count) + 1 - start;
      if (count >= kOuterRows && wide * (count + 1) > kScores) return;
      oldest = first, from = start, width = wide, ++count;
    }
  }
};

template <class T>
MEMSUITE_INLINE void add_row(T* to, const T* from, int64_t width) {
  over<T>(width, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    store<F>(to + i, load<F>(to + i, n) + load<F>(from + i, n), n);
  });
}

// The biases of the keys that a block's queries see, for adding to their scores.
//
// They are sums over a long past, of which only differences count. What is subtracted is therefore the bias of a
// query's own step: that of the block's first query, of every first step of an episode, and of a query after one whose
// bias was not finite. So nothing that a query does not see reaches its scores. Softmax does not see what is
// subtracted, and both passes have the same blocks.
template <class T>
struct WindowBias {
  const WindowHead<T>& head;
  Scratch<T> near;
  int64_t oldest = 0;  // key of the block whose bias is in `near`, as those of all keys after it
  double own = 0;      // what was subtracted from them
  explicit WindowBias(const WindowHead<T>& head) : head(head), near(head.job.bias ? head.keys() : 0) {}

  // Adds them to the scores of query i of a block, whose keys are [begin, end) of the block. To be called in order.
  void add(T* row, const WindowBlock<T>& block, int64_t i, int64_t begin, int64_t end) {
    if (!head.job.bias) return;
    const int64_t t = block.begin + i;
    if (i == 0 || begin < oldest || own - own != 0 || head.job.age[t * head.job.batch + head.b] == 0) {
      oldest = begin;
      own = head.job.bias[head.row(head.newest(t))];
      for (int64_t s = begin; s < block.width; ++s)
        near.data[s] = static_cast<T>(head.job.bias[head.row(block.from + s)] - own);
    }
    add_row(row + begin, near.data + begin, end - begin);
  }
};

// to[row] = rows[row] * packed, over keys [from, from + depth) of weights from pack_along with `keys` rows a block.
template <class T>
void product_along(const T* const* rows, T* const* to, const T* packed, int64_t keys, int64_t size,
                   const WindowBlock<T>& block) {
  constexpr int64_t columns = 2 * Simd<T>::lanes;
  Product<T> work{rows, block.width, size, to};
  for (work.column = 0; work.column < size; work.column += columns) {
    work.packed = packed + work.column * keys + block.from * columns;
    over_rows<kOuterRows>(0, block.count, work);
  }
}

// The memory for one block: scores, and their gradients.
template <class T>
struct WindowScores {
  Scratch<T> memory;
  Pointers<T> at;
  const T** rows() { return const_cast<const T**>(at.at); }
  explicit WindowScores(int64_t size) : memory(size) {}
  void set(const WindowBlock<T>& block, int64_t stride) { at.set(memory.data, block.count, stride); }
};

// An upper bound on the scores of a block.
template <class T>
int64_t window_scores(const WindowAttentionJob<T>& job) {
  const int64_t wide = round_up<2 * Simd<T>::lanes>(job.before + job.steps), least = kOuterRows * wide;
  return least > kScores ? least : kScores;
}

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
  WindowScores<T> scores(window_scores(job));
  Pointers<const T> q;
  Pointers<T> y;
  for (int64_t i = 0; i < kBlockRows; ++i) scales.data[i] = scale;
  for (int64_t n = first; n < last; ++n) {
    head.b = n / job.heads, head.h = n % job.heads;
    head.pack_across(k.data, job.k);
    head.pack_along(v.data, job.v);
    for (int64_t t = 0; t < job.steps;) {
      const WindowBlock<T> block(head, t);
      scores.set(block, block.width);
      for (int64_t i = 0; i < block.count; ++i) {
        q.at[i] = job.q + head.row(t + i) * size;
        y.at[i] = job.y + head.row(t + i) * size;
      }
      product(Product<T>{q.at, size, block.width, scores.at.at, scales.data}, k.data + block.from * size, block.count);
      for (int64_t i = 0; i < block.count; ++i) {
        T* row = scores.at.at[i];
        const int64_t begin = head.oldest(t + i) - block.from, end = head.newest(t + i) + 1 - block.from;
        bias.add(row, block, i, begin, end);
        const T most = window_max(row, begin, end), sum = window_exp(row, block.width, begin, end, most);
        job.total[head.row(t + i)] = most + __builtin_log(sum);
        scale_row(row + begin, 1 / sum, end - begin);
      }
      product_along(scores.rows(), y.at, v.data, keys, size, block);
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
  WindowScores<T> weights(window_scores(job)), flows(window_scores(job));
  Pointers<const T> q, grad;
  Pointers<T> d_q;
  for (int64_t i = 0; i < kBlockRows; ++i) scales.data[i] = scale;
  for (int64_t n = first; n < last; ++n) {
    head.b = n / job.heads, head.h = n % job.heads;
    head.pack_across(k_across.data, job.k);
    head.pack_across(v_across.data, job.v);
    head.pack_along(k_along.data, job.k);
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
      for (int64_t i = 0; i < block.count; ++i) {
        const int64_t begin = head.oldest(t + i) - block.from, end = head.newest(t + i) + 1 - block.from;
        const T mean = sum_over(grad.at[i], job.y + head.row(t + i) * size, size);
        bias.add(weights.at.at[i], block, i, begin, end);
        window_exp(weights.at.at[i], block.width, begin, end, job.total[head.row(t + i)]);
        window_softmax_back(flows.at.at[i], weights.at.at[i], block.width, mean, scale);
        if (job.bias) add_row(d_bias.data + block.from, flows.at.at[i], block.width);
      }
      product_along(flows.rows(), d_q.at, k_along.data, keys, size, block);
      const int64_t from = block.from * size;
      add_outer(d_k.data + from, flows.rows(), block.width, q.at, size, block.count, columns.data, numbers.data);
      add_outer(d_v.data + from, weights.rows(), block.width, grad.at, size, block.count, columns.data, numbers.data);
      t += block.count;
    }
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
