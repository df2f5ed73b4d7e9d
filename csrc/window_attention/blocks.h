// One head of attention to a window, the blocks of its queries, and what is added to their scores.
//
// The keys and values of one head are packed once. Then come blocks of queries, each with the scores of the keys that
// any of its queries sees. A block has fewer queries where these are many, so that its scores stay in the second-level
// cache.
#pragma once

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

// to[row] = rows[row] * packed, over keys [from, from + width) of weights from pack_along with `keys` rows a block.
template <class T>
void product_along(const T* const* rows, T* const* to, const T* packed, int64_t keys, int64_t size, int64_t from,
                   int64_t width, int64_t count) {
  constexpr int64_t columns = 2 * Simd<T>::lanes;
  Product<T> work{rows, width, size, to};
  for (work.column = 0; work.column < size; work.column += columns) {
    work.packed = packed + work.column * keys + from * columns;
    over_rows<kOuterRows>(0, count, work);
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

}  // namespace memsuite::MEMSUITE_LEVEL
