// Products of a few rows with weights that are packed once.
//
// The sums of a tile, some rows by some vectors of columns, stay in registers over the inner dimension. Each of its
// steps loads one vector of each block of packed columns and broadcasts one number of each row. The sums of a row have
// the same order in every tile, so dividing the rows among threads changes no bit.
#pragma once

#include "common/simd.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T, int R, int V>
struct Tile {
  Vec<T> at[R][V];
};

// tile += rows[r][0..depth) * packed[k][V][lanes]
template <class T, int R, int V>
MEMSUITE_INLINE void multiply(Tile<T, R, V>& tile, const T* const* rows, const T* packed, int64_t depth) {
  constexpr int L = Simd<T>::lanes;
  const T* row[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) row[r] = rows[r];
  for (int64_t k = 0; k < depth; ++k, packed += V * L) {
    Vec<T> w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = load<true>(packed + v * L, L);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat<T>(row[r][k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) tile.at[r][v] += x * w[v];
    }
  }
}

// The same, with the numbers of the rows packed side by side: numbers[k][R]. at(k) is where the V vectors of step k
// are.
template <class T, int R, int V, class At>
MEMSUITE_INLINE void multiply_packed(Tile<T, R, V>& tile, const T* numbers, int64_t depth, const At& at) {
  constexpr int L = Simd<T>::lanes;
  for (int64_t k = 0; k < depth; ++k, numbers += R) {
    const T* from = at(k);
    Vec<T> w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = load<true>(from + v * L, L);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat<T>(numbers[r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) tile.at[r][v] += x * w[v];
    }
  }
}

constexpr int kFlowRows = kAccumulators / 2;  // rows of a tile of two vectors

// Covers rows [begin, end) by tiles of about equal height, at most `Most` rows, and calls body.template run<R>(begin)
// for each of them.
template <int Most, class Body>
MEMSUITE_INLINE void over_rows(int64_t begin, int64_t end, const Body& body) {
  while (begin < end) {
    const int64_t left = end - begin, tiles = (left + Most - 1) / Most;
    const int64_t height = (left + tiles - 1) / tiles;
    switch (height) {
#define MEMSUITE_CASE(R)                                  \
  case R:                                                 \
    if constexpr (R <= Most) body.template run<R>(begin); \
    break;
      MEMSUITE_CASE(1)
      MEMSUITE_CASE(2)
      MEMSUITE_CASE(3)
      MEMSUITE_CASE(4)
      MEMSUITE_CASE(5)
      MEMSUITE_CASE(6)
      MEMSUITE_CASE(7)
      MEMSUITE_CASE(8)
      MEMSUITE_CASE(9)
      MEMSUITE_CASE(10)
      MEMSUITE_CASE(11)
      MEMSUITE_CASE(12)
#undef MEMSUITE_CASE
    }
    begin += height;
  }
}

// Packs the rows of a [depth, width] matrix into blocks of V vectors, out[block][k][V * lanes], with zeros beyond
// width. A null row counts as zeros.
template <class T, int V>
void pack_columns(T* out, const T* const* rows, int64_t depth, int64_t width) {
  constexpr int64_t block = V * Simd<T>::lanes;
  for (int64_t k = 0; k < depth; ++k) {
    T* to = out + k * block;
    for (int64_t begin = 0; begin < width; begin += block, to += depth * block) {
      const int64_t count = width - begin < block ? width - begin : block;
      if (rows[k] == nullptr || count < block) memset(to, 0, sizeof(T) * block);
      if (rows[k] == nullptr) continue;
      if (count == block) {
        memcpy(to, rows[k] + begin, sizeof(T) * block);
      } else {
        memcpy(to, rows[k] + begin, sizeof(T) * count);
      }
    }
  }
}

// out[block][k][V * lanes] of the matrix at(k, n) = from[k * down + n * across], zeros beyond its width.
template <class T, int V>
void pack_strided(T* out, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
  constexpr int64_t block = V * Simd<T>::lanes;
  for (int64_t begin = 0; begin < width; begin += block)
    for (int64_t k = 0; k < depth; ++k, out += block) {
      if (across == 1 && begin + block <= width) {
        memcpy(out, from + k * down + begin, sizeof(T) * block);
        continue;
      }
      for (int64_t i = 0; i < block; ++i) out[i] = begin + i < width ? from[k * down + (begin + i) * across] : T(0);
    }
}

template <int64_t Block>
constexpr int64_t round_up(int64_t n) {
  return (n + Block - 1) / Block * Block;
}

}  // namespace memsuite::MEMSUITE_LEVEL
