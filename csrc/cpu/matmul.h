// The matrix products of a recurrence: a few rows of state against weights that were packed once.
//
// A tile of rows by vectors stays in registers while the inner dimension runs; per step of it, one vector of each
// packed column block is loaded and each row's number is broadcast. Each row's sums are made in the same order whatever
// the tile it falls in, so splitting the rows over threads changes no bit.
#pragma once

#include "simd.h"

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

// The same with the rows' numbers packed side by side: numbers[k][R].
template <class T, int R, int V>
MEMSUITE_INLINE void multiply_packed(Tile<T, R, V>& tile, const T* numbers, const T* packed, int64_t depth) {
  constexpr int L = Simd<T>::lanes;
  for (int64_t k = 0; k < depth; ++k, packed += V * L, numbers += R) {
    Vec<T> w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = load<true>(packed + v * L, L);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat<T>(numbers[r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) tile.at[r][v] += x * w[v];
    }
  }
}

// Calls body.template run<R>(begin) for tiles that cover [begin, end), none higher than Most, of about equal height.
template <int Most, class Body>
MEMSUITE_INLINE void over_rows(int64_t begin, int64_t end, const Body& body) {
  while (begin < end) {
    const int64_t left = end - begin, tiles = (left + Most - 1) / Most;
    const int64_t height = (left + tiles - 1) / tiles;
    switch (height) {
#define MEMSUITE_CASE(R) \
  case R:                \
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

// Packs rows k of a [depth, width] matrix into blocks of V vectors: out[block][k][V * lanes], zeros beyond the width.
// keep, if given, is null where a row counts as zero.
template <class T, int V>
void pack_columns(T* out, const T* const* rows, int64_t depth, int64_t width) {
  constexpr int64_t block = V * Simd<T>::lanes;
  for (int64_t begin = 0; begin < width; begin += block) {
    const int64_t count = width - begin < block ? width - begin : block;
    for (int64_t k = 0; k < depth; ++k, out += block) {
      if (rows[k] == nullptr || count < block) memset(out, 0, sizeof(T) * block);
      if (rows[k] == nullptr) continue;
      if (count == block) {
        memcpy(out, rows[k] + begin, sizeof(T) * block);
      } else {
        memcpy(out, rows[k] + begin, sizeof(T) * count);
      }
    }
  }
}

// packed[unit block][D + 1][G][lanes]: the biases, then column k of the weights [G D, D] of G gates.
template <class T, int G>
void pack_gates(T* packed, const T* weights, const T* biases, int64_t size) {
  constexpr int L = Simd<T>::lanes;
  for (int64_t unit = 0; unit < size; unit += L) {
    T* block = packed + unit * G * (size + 1);
    const int count = size - unit < L ? static_cast<int>(size - unit) : L;
    memset(block, 0, sizeof(T) * G * L * (size + 1));
    for (int g = 0; g < G; ++g) {
      const T* bias = biases + g * size + unit;
      const T* from = weights + (g * size + unit) * size;
      T* to = block + g * L;
      for (int l = 0; l < count; ++l) to[l] = bias[l];
      for (int64_t k = 0; k < size; ++k) {
        to += G * L;
        for (int l = 0; l < count; ++l) to[l] = from[l * size + k];
      }
    }
  }
}

template <int64_t Block>
constexpr int64_t round_up(int64_t n) {
  return (n + Block - 1) / Block * Block;
}

template <class T, int G>
int64_t gates_packed_size(int64_t size) {
  return G * (size + 1) * round_up<Simd<T>::lanes>(size);
}

// A recurrence of G gates over rows [first, last) of the batch, from the first step to the last: a Step for every block
// of units, in tiles of at most Most rows.
template <int G, int Most, class Step, class Job, class T>
void gated_forward(const Job& job, const T* packed, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  Scratch<T> zeros(job.size);
  Scratch<const T*> rows(last - first);
  memset(zeros.data, 0, sizeof(T) * job.size);
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      const T* h = before(job, job.out, t, b);
      rows.data[b - first] = h == nullptr ? zeros.data : h;
    }
    for (int64_t unit = 0; unit < job.size; unit += L) {
      const int count = job.size - unit < L ? static_cast<int>(job.size - unit) : L;
      const Step step{job, rows.data, packed + unit * G * (job.size + 1), t, first, unit, count};
      over_rows<Most>(first, last, step);
    }
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
