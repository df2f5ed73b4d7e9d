// The gradient of weights: a sum of outer products over samples, in blocks that stay in cache. For recurrent weights
// the samples are all steps of all environments. Threads divide the rows of the result among them, so each number is
// summed in one order with any number of threads.
#pragma once

#include "common/forms.h"

namespace memsuite::MEMSUITE_LEVEL {

// The gradients for some rows of the weights: data[k * stride + m] at sample k, for row m below width.
template <class T>
struct RowGradients {
  const T* data;
  int64_t stride, width;
};

// Packs the gradients of a whole tile of rows, which lie side by side. While the tile is multiplied, the first-level
// cache gets the gradients of the next one.
template <class T>
MEMSUITE_INLINE void outer_pack_tile(T* numbers, T* sums, const T* from, int64_t stride, int64_t depth) {
  constexpr int R = kOuterRows;
  T block[R] = {};
  for (int64_t k = 0; k < depth; ++k, from += stride, numbers += R) {
    __builtin_prefetch(from + 2 * R - 1);
    memcpy(numbers, from, sizeof(T) * R);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) block[r] += from[r];
  }
  for (int r = 0; r < R; ++r) sums[r] += block[r];
}

// Packs the gradients of R rows, from row m on, into numbers[k][R], and adds their sums over k to sums.
template <class T>
void outer_pack(T* numbers, T* sums, const RowGradients<T>* parts, int64_t m, int64_t rows, int64_t begin,
                int64_t depth) {
  constexpr int R = kOuterRows;
  for (; m >= parts->width; ++parts) m -= parts->width;
  if (rows == R && m + R <= parts->width)
    return outer_pack_tile(numbers, sums, parts->data + begin * parts->stride + m, parts->stride, depth);
  memset(numbers, 0, sizeof(T) * R * depth);
  for (int64_t r = 0; r < rows;) {
    int64_t at = m + r;
    const RowGradients<T>* part = parts;
    for (; at >= part->width; ++part) at -= part->width;
    const int64_t count = rows - r < part->width - at ? rows - r : part->width - at;
    const T* from = part->data + begin * part->stride + at;
    for (int64_t k = 0; k < depth; ++k, from += part->stride)
      for (int64_t i = 0; i < count; ++i) numbers[k * R + r + i] = from[i];
    r += count;
  }
  T block[R] = {};
  for (int64_t k = 0; k < depth; ++k)
    for (int r = 0; r < R; ++r) block[r] += numbers[k * R + r];
  for (int64_t r = 0; r < rows; ++r) sums[r] += block[r];
}

// Fills d_w [M, D] and d_b [M] from `parts`, whose widths add up to M, for tiles [first, last) of kOuterRows rows.
// row_of(sample) is the row by which the weights were multiplied at that sample, or null for zeros.
template <class T, class RowOf>
MEMSUITE_INLINE void outer_products(T* d_w, T* d_b, const RowGradients<T>* parts, int64_t total, int64_t size,
                                    int64_t samples, int64_t first, int64_t last, const RowOf& row_of) {
  constexpr int R = kOuterRows, L = Simd<T>::lanes;
  Scratch<const T*> rows(kOuterDepth);
  Scratch<T> columns(kOuterDepth * round_up<2 * L>(size)), numbers(kOuterDepth * R);
  const int64_t end = last * R < total ? last * R : total;
  memset(d_w + first * R * size, 0, sizeof(T) * (end - first * R) * size);
  memset(d_b + first * R, 0, sizeof(T) * (end - first * R));
  for (int64_t begin = 0; begin < samples; begin += kOuterDepth) {
    const int64_t depth = samples - begin < kOuterDepth ? samples - begin : kOuterDepth;
    for (int64_t k = 0; k < depth; ++k) rows.data[k] = row_of(begin + k);
    in_form<T>([&](auto form) {
      form.pack_samples(columns.data, rows.data, depth, size);
      add_tiles<decltype(form)>(
          d_w, first * R, end, size, depth, columns.data, numbers.data,
          [&](int64_t m, int64_t count) { outer_pack(numbers.data, d_b + m, parts, m, count, begin, depth); });
    });
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
