// Products of float32 numbers in bfloat16: the factors are rounded to eight significant bits, to the nearest and ties
// to even, and the sums are float32.
//
// An instruction of AVX-512 BF16 adds two products to every lane. The factors therefore lie in pairs: 32 bits hold the
// number at an even depth in the lower half and that at the next depth in the upper half. A last odd one is paired with
// zero. The instruction takes subnormal numbers for zero. These functions are compiled for that extension and called
// only where bfloat16_products says so.
#pragma once

#include "common/matmul.h"

#if defined(__AVX512F__)
#define MEMSUITE_PAIRS __attribute__((target("avx512bf16")))

namespace memsuite::MEMSUITE_LEVEL {

// The upper 16 bits of the nearest bfloat16; NaN stays NaN.
MEMSUITE_INLINE uint32_t rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
  return ((bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : nearest) >> 16;
}

MEMSUITE_INLINE uint32_t paired(float lower, float upper) { return rounded(lower) | rounded(upper) << 16; }

constexpr int64_t pairs_of(int64_t depth) { return (depth + 1) / 2; }

// to[j] = (row[2 j], row[2 j + 1])
inline void pair_row(uint32_t* to, const float* row, int64_t depth) {
  for (int64_t j = 0; j < depth / 2; ++j) to[j] = paired(row[2 * j], row[2 * j + 1]);
  if (depth % 2) to[depth / 2] = rounded(row[depth - 1]);
}

// to[i] = (lower[i], upper[i]) for i below count, then zeros up to `whole`; a null row counts as zeros.
inline void pair_rows(uint32_t* to, const float* lower, const float* upper, int64_t count, int64_t whole) {
  if (lower != nullptr && upper != nullptr) {
    for (int64_t i = 0; i < count; ++i) to[i] = paired(lower[i], upper[i]);
  } else {
    for (int64_t i = 0; i < count; ++i)
      to[i] = paired(lower == nullptr ? 0.0f : lower[i], upper == nullptr ? 0.0f : upper[i]);
  }
  for (int64_t i = count; i < whole; ++i) to[i] = 0;
}

// Pairs rows 2 j and 2 j + 1 of a [depth, width] matrix and packs them into columns, out[block][pair][2 lanes].
inline void pair_columns(uint32_t* out, const float* const* rows, int64_t depth, int64_t width) {
  constexpr int64_t block = 2 * Simd<float>::lanes;
  const int64_t pairs = pairs_of(depth);
  for (int64_t k = 0; k < depth; k += 2)
    for (int64_t n = 0; n < width; n += block) {
      const float *lower = rows[k], *upper = k + 1 < depth ? rows[k + 1] : nullptr;
      pair_rows(out + n * pairs + k / 2 * block, lower == nullptr ? nullptr : lower + n,
                upper == nullptr ? nullptr : upper + n, width - n < block ? width - n : block, block);
    }
}

// As pack_strided<float, 2>: out[block][pair][2 lanes] of the matrix at(k, n) = from[k * down + n * across].
inline void pack_pairs(uint32_t* out, const float* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
  constexpr int64_t block = 2 * Simd<float>::lanes;
  for (int64_t begin = 0; begin < width; begin += block)
    for (int64_t k = 0; k < depth; k += 2, out += block) {
      const int64_t count = width - begin < block ? width - begin : block;
      const float *lower = from + k * down + begin * across, *upper = k + 1 < depth ? lower + down : nullptr;
      if (across == 1) {
        pair_rows(out, lower, upper, count, block);
        continue;
      }
      for (int64_t i = 0; i < count; ++i)
        out[i] = paired(lower[i * across], upper == nullptr ? 0.0f : upper[i * across]);
      for (int64_t i = count; i < block; ++i) out[i] = 0;
    }
}

// tile += rows[r][0..pairs) * packed[pair][2 lanes], with pair j of row r at rows[r * down + j * across].
template <int R>
MEMSUITE_INLINE MEMSUITE_PAIRS void multiply_pairs(Tile<float, R, 2>& tile, const uint32_t* rows, int64_t down,
                                                   int64_t across, const uint32_t* packed, int64_t pairs) {
  constexpr int L = Simd<float>::lanes;
  for (int64_t j = 0; j < pairs; ++j, packed += 2 * L, rows += across) {
    const __m512bh w[2] = {(__m512bh)_mm512_loadu_si512(packed), (__m512bh)_mm512_loadu_si512(packed + L)};
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(rows[r * down]));
#pragma GCC unroll 4
      for (int v = 0; v < 2; ++v) tile.at[r][v] = _mm512_dpbf16_ps(tile.at[r][v], x, w[v]);
    }
  }
}

// The work of Product (rows.h) with `pairs` pairs a row.
template <class Work>
struct PairProduct {
  Work work;
  const uint32_t* rows;
  int64_t pairs;

  template <int R>
  __attribute__((noinline)) MEMSUITE_PAIRS void run(int64_t begin) const {
    Tile<float, R, 2> sums = {};
    const uint32_t* packed = reinterpret_cast<const uint32_t*>(work.packed);
    multiply_pairs(sums, rows + begin * pairs, pairs, 1, packed, pairs);
    work.finish(sums, begin);
  }
};

}  // namespace memsuite::MEMSUITE_LEVEL
#endif
