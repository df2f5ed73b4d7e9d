// Products of blocks of rows with weights that are packed once, and sums of outer products over rows. The maps with a
// fused operation before or after them consist of these. The rows of a block stay in the second-level cache.
//
// Rows are given by pointers, so that a backward pass takes only the rows with a gradient that is not zero, wherever
// they are in memory. Most steps of a memory task are blank, and above the recurrence their gradient is zero.
#pragma once

#include "common/fold.h"
#include "common/forms.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int64_t kBlockRows = 96;         // a multiple of the height of a tile of every instruction set
static_assert(kBlockRows <= kOuterDepth);  // as a tile of outer products needs (forms.h)

template <class Number>
struct Pointers {
  Number* at[kBlockRows];
  void set(Number* from, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) at[i] = from + i * stride;
  }
};

// to[row] = scale[row] * (rows[row] * packed) + added[row] + factor[row] * other[row], for one block of columns.
template <class T>
struct Product {
  const T* const* rows;
  int64_t depth, width;
  T* const* to;
  const T* scale = nullptr;
  const T* const* added = nullptr;
  const T* const* other = nullptr;  // with factor
  const T* factor = nullptr;
  const T* packed = nullptr;  // in bfloat16 the memory holds pairs (pairs.h)
  int64_t column = 0;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    Tile<T, R, 2> sums = {};
    multiply(sums, rows + begin, packed, depth);
    finish(sums, begin);
  }

  template <int R>
  MEMSUITE_INLINE void finish(const Tile<T, R, 2>& sums, int64_t begin) const {
    width - column >= 2 * Simd<T>::lanes ? write<R, true>(sums, begin) : write<R, false>(sums, begin);
  }

  template <int R, bool Full>
  MEMSUITE_INLINE void write(const Tile<T, R, 2>& sums, int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    const int64_t left = width - column;
    const int counts[2] = {lanes_of<T>(left), lanes_of<T>(left - L)};
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v) {
        const int64_t at = column + v * L;
        Vec<T> sum = sums.at[r][v];
        if (scale != nullptr) sum *= splat(scale[begin + r]);
        if (added != nullptr) sum += load<Full>(added[begin + r] + at, counts[v]);
        if (other != nullptr) sum += splat(factor[begin + r]) * load<Full>(other[begin + r] + at, counts[v]);
        store<Full>(to[begin + r] + at, sum, counts[v]);
      }
  }
};

// Computes all columns of a product, with weights from pack_strided<T, 2>.
template <class T>
void product(const Product<T>& work, const T* packed, int64_t count) {
  WholeNumbers<T>::multiply(work, packed, count);
}

// Computes all columns of a product with the weights of a map, from PackedMap.
template <class T>
void map_product(const Product<T>& work, const T* packed, int64_t count) {
  in_form<T>([&](auto form) { form.multiply(work, packed, count); });
}

// Adds the outer products of `count` left rows and right rows to sums [left_width, right_width]. `columns`
// holds kBlockRows padded right rows, `numbers` kBlockRows kOuterRows numbers.
template <class Form, class T>
void add_outer_in(T* sums, const T* const* left, int64_t left_width, const T* const* right, int64_t right_width,
                  int64_t count, T* columns, T* numbers) {
  constexpr int R = kOuterRows;
  Form::pack_samples(columns, right, count, right_width);
  add_tiles<Form>(sums, 0, left_width, right_width, count, columns, numbers, [&](int64_t m, int64_t rows) {
    if (rows < R) memset(numbers, 0, sizeof(T) * R * count);
    for (int64_t k = 0; k < count; ++k)
      rows == R ? memcpy(numbers + k * R, left[k] + m, sizeof(T) * R)
                : memcpy(numbers + k * R, left[k] + m, sizeof(T) * rows);
  });
}

// The same in the precision of T, for what is not a map.
template <class T>
void add_outer(T* sums, const T* const* left, int64_t left_width, const T* const* right, int64_t right_width,
               int64_t count, T* columns, T* numbers) {
  add_outer_in<WholeNumbers<T>>(sums, left, left_width, right, right_width, count, columns, numbers);
}

// The gradient of a map: sums over rows of the outer product of a left row and a right row, [left_width, right_width].
template <class T>
struct OuterSums {
  const int64_t left_width, right_width;
  T* const sums;
  Scratch<T> columns, numbers;

  OuterSums(T* to, int64_t left, int64_t right)
      : left_width(left),
        right_width(right),
        sums(to),
        columns(kBlockRows * round_up<2 * Simd<T>::lanes>(right)),
        numbers(kBlockRows * kOuterRows) {
    memset(sums, 0, sizeof(T) * left * right);
  }

  void add(const T* const* left, const T* const* right, int64_t count) const {
    in_form<T>([&](auto form) {
      add_outer_in<decltype(form)>(sums, left, left_width, right, right_width, count, columns.data, numbers.data);
    });
  }
};

// Whether all numbers of a row are zero; NaN is not zero.
template <class T>
MEMSUITE_INLINE bool is_zero(const T* row, int64_t size) {
  Int<T> found{};
  over<T>(size, [&](auto full, int64_t i, int n)
                    __attribute__((always_inline)) { found |= load<decltype(full)::value>(row + i, n) != Vec<T>{}; });
  bool zero = true;
  for (int l = 0; l < Simd<T>::lanes; ++l) zero &= found[l] == 0;
  return zero;
}

// Takes the rows of [first, last) with a gradient that is not zero in blocks and calls body(indices of the rows, count)
// for each block. Calls blank(row) for each of the other rows.
template <class T, class Body, class Blank>
void over_active(const T* grad, int64_t width, int64_t first, int64_t last, const Body& body, const Blank& blank) {
  int64_t chosen[kBlockRows], count = 0;
  for (int64_t n = first; n < last; ++n) {
    if (is_zero(grad + n * width, width)) {
      blank(n);
      continue;
    }
    chosen[count++] = n;
    if (count == kBlockRows) body(chosen, count), count = 0;
  }
  if (count > 0) body(chosen, count);
}

template <class T>
MEMSUITE_INLINE T sum_over(const T* x, const T* y, int64_t size) {
  Vec<T> sum{};
  over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    sum += load<F>(x + i, n) * load<F>(y + i, n);
  });
  return sum_of_lanes<T>(sum);
}

template <class T>
MEMSUITE_INLINE void scale_row(T* row, T scale, int64_t size) {
  over<T>(size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    store<F>(row + i, splat(scale) * load<F>(row + i, n), n);
  });
}

// The factor that scales the mean square of a row to one.
template <class T>
MEMSUITE_INLINE T norm_scale(const T* x, int64_t size, T eps) {
  return 1 / __builtin_sqrt(sum_over(x, x, size) / size + eps);
}

}  // namespace memsuite::MEMSUITE_LEVEL
