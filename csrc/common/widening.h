// One block of columns of a product of rows with packed weights.
#pragma once

#include "common/matmul.h"

namespace memsuite::MEMSUITE_LEVEL {

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
    const int counts[2] = {lanes_of<T>(left), lanes_of<T>(left - L)};
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

}  // namespace memsuite::MEMSUITE_LEVEL
