// The two forms that the factors of products of a map have: the numbers as they are, or float32 numbers rounded to
// bfloat16 and in pairs (pairs.h). A loop is written for any form, and in_form chooses the form. Both need the same
// memory or less, so memory for one serves the other.
#pragma once

#include "common/outer.h"
#include "common/pairs.h"
#include "common/precision.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
struct WholeNumbers {
  // As pack_strided with two vectors.
  static void pack(T* out, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
    pack_strided<T, 2>(out, from, depth, width, down, across);
  }

  // As pack_columns with two vectors.
  static void pack_samples(T* out, const T* const* rows, int64_t depth, int64_t width) {
    pack_columns<T, 2>(out, rows, depth, width);
  }

  // As outer_tile, with columns from pack_samples and at most kOuterDepth samples.
  static void add_outer_tile(T* d_w, const T* numbers, const T* columns, int64_t rows, int64_t size, int64_t depth) {
    outer_tile(d_w, numbers, columns, rows, size, depth);
  }

  // Computes all columns of a Product (rows.h), with weights from `pack`.
  template <class Work>
  static void multiply(Work work, const T* packed, int64_t count) {
    for (work.column = 0; work.column < work.width; work.column += 2 * Simd<T>::lanes) {
      work.packed = packed + work.column * work.depth;
      over_rows<kOuterRows>(0, count, work);
    }
  }
};

#if defined(MEMSUITE_PAIRS)
// The same functions; pairs lie in memory for float32 numbers.
struct PairedNumbers {
  static constexpr int kWidth = 2 * Simd<float>::lanes;

  static void pack(float* out, const float* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
    pack_pairs(reinterpret_cast<uint32_t*>(out), from, depth, width, down, across);
  }

  static void pack_samples(float* out, const float* const* rows, int64_t depth, int64_t width) {
    pair_columns(reinterpret_cast<uint32_t*>(out), rows, depth, width);
  }

  __attribute__((noinline)) MEMSUITE_PAIRS static void add_outer_tile(float* d_w, const float* numbers,
                                                                      const float* columns, int64_t rows, int64_t size,
                                                                      int64_t depth) {
    uint32_t tile[kOuterDepth / 2 * kOuterRows];
    for (int64_t k = 0; k < depth; k += 2) {
      const float* lower = numbers + k * kOuterRows;
      pair_rows(tile + k / 2 * kOuterRows, lower, k + 1 < depth ? lower + kOuterRows : nullptr, kOuterRows, kOuterRows);
    }
    const int64_t pairs = pairs_of(depth);
    for (int64_t n = 0; n < size; n += kWidth) {
      Tile<float, kOuterRows, 2> sums = {};
      multiply_pairs(sums, tile, 1, kOuterRows, reinterpret_cast<const uint32_t*>(columns) + n * pairs, pairs);
      add_tile(d_w, sums, rows, size, n);
    }
  }

  template <class Work>
  static void multiply(Work work, const float* packed, int64_t count) {
    const int64_t pairs = pairs_of(work.depth);
    Scratch<uint32_t> rows(count * pairs);
    for (int64_t i = 0; i < count; ++i) pair_row(rows.data + i * pairs, work.rows[i], work.depth);
    for (work.column = 0; work.column < work.width; work.column += kWidth) {
      work.packed = packed + work.column * pairs;
      over_rows<kOuterRows>(0, count, PairProduct<Work>{work, rows.data, pairs});
    }
  }
};
#endif

// Calls body with the form in which numbers of this type are multiplied now.
template <class T, class Body>
MEMSUITE_INLINE void in_form(const Body& body) {
#if defined(MEMSUITE_PAIRS)
  if constexpr (sizeof(T) == 4)
    if (bfloat16_products) return body(PairedNumbers{});
#endif
  body(WholeNumbers<T>{});
}

// Adds outer products of samples to rows [first, end) of d_w, which has `size` columns, a tile at a time:
// fill(m, rows) writes the numbers of rows [m, m + rows) at all samples to numbers[k][kOuterRows].
template <class Form, class T, class Fill>
MEMSUITE_INLINE void add_tiles(T* d_w, int64_t first, int64_t end, int64_t size, int64_t depth, const T* columns,
                               const T* numbers, const Fill& fill) {
  for (int64_t m = first; m < end; m += kOuterRows) {
    const int64_t rows = end - m < kOuterRows ? end - m : kOuterRows;
    fill(m, rows);
    Form::add_outer_tile(d_w + m * size, numbers, columns, rows, size, depth);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
