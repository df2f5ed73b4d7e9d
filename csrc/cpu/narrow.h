// Products of many rows with a matrix that is narrow on one side: input maps and heads, where BLAS spends its time on
// packing. The narrow matrix is packed once per call; rows pass in blocks that stay in the first-level cache.
#pragma once

#include "outer.h"

namespace memsuite::MEMSUITE_LEVEL {

constexpr int64_t kRows = 128;  // of a block

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

// wide[row] = bias + narrow[row] * packed (+ factor[row] * added[row]), for one block of columns.
template <class T>
struct Widening {
  const T* const* narrow;
  const T *packed, *bias, *added, *factor;  // the last three may be null
  T* wide;
  int64_t depth, width, column;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    width - column >= 2 * Simd<T>::lanes ? tile<R, true>(begin) : tile<R, false>(begin);
  }

  template <int R, bool Full>
  MEMSUITE_INLINE void tile(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    const int64_t left = width - column;
    const int counts[2] = {static_cast<int>(left < L ? left : L), static_cast<int>(left < L ? 0 : left < 2 * L ? left - L : L)};
    Tile<T, R, 2> sums;
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v)
        sums.at[r][v] = bias == nullptr ? Vec<T>{} : load<Full>(bias + column + v * L, counts[v]);
    multiply(sums, narrow + begin, packed, depth);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v) {
        const int64_t at = (begin + r) * width + column + v * L;
        Vec<T> sum = sums.at[r][v];
        if (factor != nullptr) sum += splat(factor[begin + r]) * load<Full>(added + at, counts[v]);
        store<Full>(wide + at, sum, counts[v]);
      }
  }
};

// Rows of a block, each `stride` numbers after the one before.
template <class T>
struct RowsOf {
  const T* at[kRows];
  void set(const T* from, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) at[i] = from + i * stride;
  }
};

template <class T>
void widen_block(const NarrowJob<T>& job, const T* packed, const T* narrow, const T* added, const T* factor, T* wide,
                 int64_t count) {
  constexpr int64_t block = 2 * Simd<T>::lanes;
  RowsOf<T> rows;
  rows.set(narrow, count, job.narrow);
  for (int64_t column = 0; column < job.wide; column += block) {
    const Widening<T> work{rows.at, packed + column * job.narrow, job.bias, added, factor, wide, job.narrow, job.wide, column};
    over_rows<kFlowRows>(0, count, work);
  }
}

template <class T>
int64_t widening_packed_size(int64_t narrow, int64_t wide) {
  return narrow * round_up<2 * Simd<T>::lanes>(wide);
}

template <class T>
int64_t narrowing_packed_size(int64_t narrow, int64_t wide) {
  return wide * round_up<Simd<T>::lanes>(narrow);
}

// y = bias + x W^T for rows [first, last), where W is [wide, narrow].
template <class T>
void narrow_linear(const NarrowJob<T>& job, const T* packed, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    widen_block<T>(job, packed, job.x + n * job.narrow, nullptr, nullptr, job.y + n * job.wide, count);
  }
}

// Adds rows [first, last) to sums [narrow, wide] += narrow_row outer wide_row, and those of narrow rows to d_b.
template <class T>
void outer_block(T* sums, T* d_b, const T* narrow, const T* const* wide_rows, T* columns, T* numbers, int64_t count,
                 int64_t width, int64_t wide) {
  constexpr int R = kOuterRows;
  const Slopes<T> part{narrow, width, width};
  pack_columns<T, 2>(columns, wide_rows, count, wide);
  for (int64_t m = 0; m < width; m += R) {
    const int64_t rows = width - m < R ? width - m : R;
    outer_pack(numbers, d_b + m, &part, m, rows, 0, count);
    outer_tile(sums + m * wide, numbers, columns, rows, wide, count);
  }
}

// The gradients of W, transposed [narrow, wide], and of the bias [wide], summed over rows [first, last).
template <class T>
void narrow_linear_backward(const NarrowJob<T>& job, T* d_w, T* d_b, int64_t first, int64_t last) {
  const int64_t wide = job.wide, width = job.narrow;
  Scratch<T> columns(kOuterDepth * round_up<2 * Simd<T>::lanes>(wide)), numbers(kOuterDepth * kOuterRows);
  Scratch<T> ignored(width + kOuterRows), extended(kRows * (width + 1)), sums((width + 1) * wide);
  RowsOf<T> rows;
  memset(sums.data, 0, sizeof(T) * (width + 1) * wide);
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    for (int64_t i = 0; i < count; ++i) {  // a one beside each row: its products are the bias's gradient
      memcpy(extended.data + i * (width + 1), job.x + (n + i) * width, sizeof(T) * width);
      extended.data[i * (width + 1) + width] = 1;
    }
    rows.set(job.grad + n * wide, count, wide);
    outer_block(sums.data, ignored.data, extended.data, rows.at, columns.data, numbers.data, count, width + 1, wide);
  }
  memcpy(d_w, sums.data, sizeof(T) * width * wide);
  memcpy(d_b, sums.data + width * wide, sizeof(T) * wide);
}

template <class T>
struct Narrowing {
  const T* const* rows;
  const T* packed;
  T* out;  // [kRows][lanes]
  int64_t depth;

  template <int R>
  __attribute__((noinline)) void run(int64_t begin) const {
    constexpr int L = Simd<T>::lanes;
    Tile<T, R, 1> sums = {};
    multiply(sums, rows + begin, packed, depth);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) store<true>(out + (begin + r) * L, sums.at[r][0], L);
  }
};

template <class T>
MEMSUITE_INLINE T sum_of(Vec<T> v) {
  T sum = 0;
  for (int i = 0; i < Simd<T>::lanes; ++i) sum += v[i];
  return sum;
}

// plain = x W^T, scale = 1 / sqrt(mean(x^2) + eps), out = plain * scale, for rows [first, last); W is [narrow, wide].
template <class T>
void normed_linear(const NarrowJob<T>& job, const T* packed, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  Scratch<T> sums(kRows * L);
  RowsOf<T> rows;
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    rows.set(job.x + n * job.wide, count, job.wide);
    for (int64_t i = 0; i < count; ++i) {
      Vec<T> squares{};
      over<T>(job.wide, [&](auto full, int64_t d, int k) __attribute__((always_inline)) {
        const Vec<T> x = load<decltype(full)::value>(rows.at[i] + d, k);
        squares += x * x;
      });
      job.scale[n + i] = 1 / __builtin_sqrt(sum_of<T>(squares) / job.wide + job.eps);
    }
    for (int64_t column = 0; column < job.narrow; column += L) {
      const int64_t width = job.narrow - column < L ? job.narrow - column : L;
      over_rows<12>(0, count, Narrowing<T>{rows.at, packed + column * job.wide, sums.data, job.wide});
      for (int64_t i = 0; i < count; ++i) {
        T *plain = job.plain + (n + i) * job.narrow + column, *y = job.y + (n + i) * job.narrow + column;
        for (int64_t a = 0; a < width; ++a) {
          plain[a] = sums.data[i * L + a];
          y[a] = plain[a] * job.scale[n + i];
        }
      }
    }
  }
}

// d_x for rows [first, last), and d_w [narrow, wide] summed over them.
template <class T>
void normed_linear_backward(const NarrowJob<T>& job, const T* packed, T* d_w, int64_t first, int64_t last) {
  const int64_t wide = job.wide, width = job.narrow;
  Scratch<T> columns(kOuterDepth * round_up<2 * Simd<T>::lanes>(wide)), numbers(kOuterDepth * kOuterRows);
  Scratch<T> ignored(width + kOuterRows), slopes(kRows * width), factor(kRows);
  RowsOf<T> rows;
  memset(d_w, 0, sizeof(T) * width * wide);
  for (int64_t n = first; n < last; n += kRows) {
    const int64_t count = last - n < kRows ? last - n : kRows;
    for (int64_t i = 0; i < count; ++i) {
      const T *grad = job.grad + (n + i) * width, *plain = job.plain + (n + i) * width, scale = job.scale[n + i];
      T through = 0;
      for (int64_t a = 0; a < width; ++a) {
        slopes.data[i * width + a] = grad[a] * scale;
        through += grad[a] * plain[a];
      }
      factor.data[i] = -through * scale * scale * scale / wide;
    }
    const T* x = job.x + n * wide;
    widen_block<T>(job, packed, slopes.data, x, factor.data, job.y + n * wide, count);
    rows.set(x, count, wide);
    outer_block(d_w, ignored.data, slopes.data, rows.at, columns.data, numbers.data, count, width, wide);
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
