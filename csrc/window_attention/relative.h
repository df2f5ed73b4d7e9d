// Scores by age: the product of a query and a key that belongs to the age of what is attended to, and not to its step.
//
// The keys by age are packed in reverse, the oldest first, so that the scores of one query by age lie in the order of
// the steps that it sees, and are added to its other scores, or taken from their gradients, as one row.
#pragma once

#include "window_attention/blocks.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
struct WindowRelative {
  const WindowHead<T>& head;
  const WindowAttentionJob<T>& job;
  const bool on, learns;
  Scratch<T> across, along, d_keys;
  WindowScores<T> scores;
  Pointers<const T> q;
  Pointers<T> d_q;
  int64_t from = 0, width = 0;  // of the ages that a block sees, in the reverse order; they end with age 0

  WindowRelative(const WindowHead<T>& head, bool learns)
      : head(head),
        job(head.job),
        on(job.relative_q != nullptr),
        learns(learns && on),
        across(on ? job.size * round_up<WindowHead<T>::columns>(job.ages) : 0),
        along(this->learns ? job.ages * round_up<WindowHead<T>::columns>(job.size) : 0),
        d_keys(this->learns ? job.ages * job.size : 0),
        scores(on ? window_scores(job) + kQueries * WindowHead<T>::columns : 0) {}

  // The keys of this head, as everywhere in reverse.
  const T* newest() const { return job.relative_k + ((job.ages - 1) * job.heads + head.h) * job.size; }

  void begin_head() {
    const int64_t back = -job.heads * job.size;
    if (!on) return;
    pack_strided<T, 2>(across.data, newest(), job.size, job.ages, 1, back);
    if (!learns) return;
    pack_strided<T, 2>(along.data, newest(), job.ages, job.size, back, 1);
    memset(d_keys.data, 0, sizeof(T) * job.ages * job.size);
  }

  int64_t age(const WindowBlock<T>& block, int64_t i) const { return job.age[(block.begin + i) * job.batch + head.b]; }

  // The scores by age of query i of the block, for the keys that it sees, from the oldest to the newest.
  T* row(const WindowBlock<T>& block, int64_t i) { return scores.at.at[i] + job.ages - 1 - age(block, i) - from; }

  // Computes the scores by age of all queries of a block.
  void begin_block(const WindowBlock<T>& block, const T* scales) {
    if (!on) return;
    int64_t most = 0;
    for (int64_t i = 0; i < block.count; ++i) {
      q.at[i] = job.relative_q + head.row(block.begin + i) * job.size;
      most = age(block, i) > most ? age(block, i) : most;
    }
    from = (job.ages - 1 - most) / WindowHead<T>::columns * WindowHead<T>::columns, width = job.ages - from;
    scores.at.set(scores.memory.data, block.count, width);
    product(Product<T>{q.at, job.size, width, scores.at.at, scales}, across.data + from * job.size, block.count);
  }

  // Adds them to the scores of query i, whose keys are [begin, end) of the block.
  void add(T* to, const WindowBlock<T>& block, int64_t i, int64_t begin, int64_t end) {
    if (on) add_row(to + begin, row(block, i), end - begin);
  }

  // Takes the gradients of the scores of query i, in place of the scores.
  void take(const T* flow, const WindowBlock<T>& block, int64_t i, int64_t begin, int64_t end) {
    if (!on) return;
    memset(scores.at.at[i], 0, sizeof(T) * width);
    memcpy(row(block, i), flow + begin, sizeof(T) * (end - begin));
  }

  // Passes the gradients of a block on to its queries and to the keys by age.
  void end_block(const WindowBlock<T>& block, T* columns, T* numbers) {
    if (!on) return;
    for (int64_t i = 0; i < block.count; ++i) d_q.at[i] = job.d_relative_q + head.row(block.begin + i) * job.size;
    product_along(scores.rows(), d_q.at, along.data, job.ages, job.size, from, width, block.count);
    add_outer(d_keys.data + from * job.size, scores.rows(), width, q.at, job.size, block.count, columns, numbers);
  }

  void end_head() {
    if (!on) return;
    for (int64_t a = 0; a < job.ages; ++a)
      memcpy(job.d_relative_k + ((head.b * job.ages + a) * job.heads + head.h) * job.size,
             d_keys.data + (job.ages - 1 - a) * job.size, sizeof(T) * job.size);
  }
};

}  // namespace memsuite::MEMSUITE_LEVEL
