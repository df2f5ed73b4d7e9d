// The gradient of weights: a sum of outer products over samples, in blocks that stay in cache. For recurrent weights
// the samples are all steps of all environments. Threads divide the rows of the result among them, so each number is
// summed in one order with any number of threads.
#pragma once

#include "common/pairs.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kOuterRows = kAccumulators / 2;
constexpr int64_t kOuterDepth =
    128;  // samples of one block, which fills the first-level cache together with a strip of columns

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

// Adds the first `rows` rows of a tile to columns [n, n + 2 lanes) of d_w, as far as it has so many.
template <class T>
MEMSUITE_INLINE void add_tile(T* d_w, const Tile<T, kOuterRows, 2>& sums, int64_t rows, int64_t size, int64_t n) {
  constexpr int R = kOuterRows, L = Simd<T>::lanes;
  const int64_t count = size - n < 2 * L ? size - n : 2 * L;
  if (count == 2 * L) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2 && r < rows; ++v) {
        T* to = d_w + r * size + n + v * L;
        store<true>(to, load<true>(to, L) + sums.at[r][v], L);
      }
    return;
  }
  T whole[R][2 * L];
  memcpy(whole, sums.at, sizeof whole);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < count; ++i) d_w[r * size + n + i] += whole[r][i];
}

// d_w[m][n] += sum_k numbers[k][m] * column(k, n) for one tile of rows and all columns; at(k, n) is where the two
// vectors from column n on are, beyond `size` too.
template <class T, class At>
MEMSUITE_INLINE void outer_tile_of(T* d_w, const T* numbers, int64_t rows, int64_t size, int64_t depth, const At& at) {
  constexpr int R = kOuterRows, L = Simd<T>::lanes;
  for (int64_t n = 0; n < size; n += 2 * L) {
    Tile<T, R, 2> sums = {};
    multiply_packed(sums, numbers, depth, [&](int64_t k) __attribute__((always_inline)) { return at(k, n); });
    add_tile(d_w, sums, rows, size, n);
  }
}

// The same with columns from pack_columns.
template <class T>
void outer_tile(T* d_w, const T* numbers, const T* columns, int64_t rows, int64_t size, int64_t depth) {
  constexpr int width = 2 * Simd<T>::lanes;
  outer_tile_of(d_w, numbers, rows, size, depth,
                [&](int64_t k, int64_t n) __attribute__((always_inline)) { return columns + n * depth + k * width; });
}

#if defined(MEMSUITE_PAIRS)
// A tile of kOuterRows rows of the gradient of weights in bfloat16: d_w[m][n] += the sum over samples of numbers[m] *
// columns[n], with pairs of samples, numbers[pair][kOuterRows] and columns from pair_columns.
__attribute__((noinline)) MEMSUITE_PAIRS inline void outer_tile_pairs(float* d_w, const uint32_t* numbers,
                                                                      const uint32_t* columns, int64_t rows,
                                                                      int64_t size, int64_t pairs) {
  constexpr int R = kOuterRows, width = 2 * Simd<float>::lanes;
  for (int64_t n = 0; n < size; n += width) {
    Tile<float, R, 2> sums = {};
    multiply_pairs(sums, numbers, 1, R, columns + n * pairs, pairs);
    add_tile(d_w, sums, rows, size, n);
  }
}
#endif

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
#if defined(MEMSUITE_PAIRS)
    if constexpr (sizeof(T) == 4)
      if (bfloat16_products) {
        uint32_t* paired_columns = reinterpret_cast<uint32_t*>(columns.data);
        pair_columns(paired_columns, rows.data, depth, size);
        for (int64_t m = first * R; m < end; m += R) {
          outer_pack(numbers.data, d_b + m, parts, m, end - m < R ? end - m : R, begin, depth);
          uint32_t paired_numbers[kOuterDepth / 2 * R];
          for (int64_t k = 0; k < depth; k += 2) {
            const T* lower = numbers.data + k * R;
            pair_rows(paired_numbers + k / 2 * R, lower, k + 1 < depth ? lower + R : nullptr, R, R);
          }
          outer_tile_pairs(d_w + m * size, paired_numbers, paired_columns, end - m < R ? end - m : R, size,
                           pairs_of(depth));
        }
        continue;
      }
#endif
    pack_columns<T, 2>(columns.data, rows.data, depth, size);
    for (int64_t m = first * R; m < end; m += R) {
      const int64_t count = end - m < R ? end - m : R;
      outer_pack(numbers.data, d_b + m, parts, m, count, begin, depth);
      outer_tile(d_w + m * size, numbers.data, columns.data, count, size, depth);
    }
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
