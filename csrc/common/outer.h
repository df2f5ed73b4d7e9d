// Tiles of outer products: sums over samples of a row of numbers and a row of columns.
#pragma once

#include "common/matmul.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int kOuterRows = kAccumulators / 2;
constexpr int64_t kOuterDepth =
    128;  // samples of one block, which fills the first-level cache together with a strip of columns

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

}  // namespace memsuite::MEMSUITE_LEVEL
