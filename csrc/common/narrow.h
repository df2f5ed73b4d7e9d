// Products of many rows with a matrix that is narrow on one side, as in input maps and heads, where BLAS spends most of
// its time on packing. Here the narrow matrix is packed once per call, and the rows come in blocks that stay in the
// first-level cache.
#pragma once

#include "common/outer.h"
#include "common/widening.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int64_t kRows = 128;  // rows of a block

// Rows of a block; each row begins `stride` numbers after the one before.
template <class T>
struct RowsOf {
  const T* at[kRows];
  void set(const T* from, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) at[i] = from + i * stride;
  }
};

// A product of narrow rows: its sizes, and the terms that are added to each wide row, as in Widening.
template <class T>
struct NarrowBlock {
  int64_t narrow, wide;
  const T *bias = nullptr, *added = nullptr, *factor = nullptr;
};

// All columns of a tile of wide rows. The packed weights stay in the first-level cache, and memory is written in order.
template <class T>
struct WideRows {
  const NarrowBlock<T>& block;
  const T *const *narrow, *packed;
  T* wide;

  template <int R>
  MEMSUITE_INLINE void run(int64_t begin) const {
    for (int64_t column = 0; column < block.wide; column += 2 * Simd<T>::lanes) {
      const Widening<T> work{
          narrow, packed + column * block.narrow, block.bias, block.added, block.factor, wide, block.narrow, block.wide,
          column};
      work.template run<R>(begin);
    }
  }
};

template <class T>
void widen_block(const NarrowBlock<T>& block, const T* packed, const T* narrow, T* wide, int64_t count) {
  RowsOf<T> rows;
  rows.set(narrow, count, block.narrow);
  over_rows<kFlowRows>(0, count, WideRows<T>{block, rows.at, packed, wide});
}

// Adds the outer products of narrow and wide rows to sums [width, wide], and the narrow rows to d_b [width].
template <class T>
void outer_block(T* sums, T* d_b, const T* narrow, const T* const* wide_rows, T* columns, T* numbers, int64_t count,
                 int64_t width, int64_t wide) {
  constexpr int R = kOuterRows;
  const RowGradients<T> part{narrow, width, width};
  if (width <= R && wide % (2 * Simd<T>::lanes) == 0) {  // each wide row is read once, so it need not be packed
    outer_pack(numbers, d_b, &part, 0, width, 0, count);
    return outer_tile_of(sums, numbers, width, wide, count, [&](int64_t k, int64_t n) __attribute__((always_inline)) {
      const T* from = wide_rows[k] + n;
      __builtin_prefetch(from + 2 * Simd<T>::lanes), __builtin_prefetch(from + 3 * Simd<T>::lanes);
      return from;
    });
  }
  pack_columns<T, 2>(columns, wide_rows, count, wide);
  for (int64_t m = 0; m < width; m += R) {
    const int64_t rows = width - m < R ? width - m : R;
    outer_pack(numbers, d_b + m, &part, m, rows, 0, count);
    outer_tile(sums + m * wide, numbers, columns, rows, wide, count);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
