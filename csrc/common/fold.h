// Sums over the lanes of one vector, or over the lanes of as many vectors as there are lanes, in a fixed order.
#pragma once

#include <utility>

#include "common/simd.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
using Lanes = std::make_integer_sequence<int, Simd<T>::lanes>;

// The lanes at the given places of a and b, where the lanes of b are counted after those of a.
template <class T, int... Place>
MEMSUITE_INLINE Vec<T> pick(Vec<T> a, Vec<T> b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Place...);
#else
  return __builtin_shuffle(a, b, Int<T>{Place...});
#endif
}

// Adds up neighbouring blocks of S lanes. The sums from a take the places of the even blocks, the sums from b the
// places of the odd blocks.
template <int S, class T, int... I>
MEMSUITE_INLINE Vec<T> fold_blocks(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr int L = sizeof...(I);
  return pick<T, (I / S % 2 ? L + I - S : I)...>(a, b) + pick<T, (I / S % 2 ? L + I : I + S)...>(a, b);
}

template <int S, class T>
MEMSUITE_INLINE Vec<T> fold_rows(const Vec<T>* rows) {
  if constexpr (S == Simd<T>::lanes) {
    return rows[0];
  } else {
    return fold_blocks<S, T>(fold_rows<2 * S, T>(rows), fold_rows<2 * S, T>(rows + S), Lanes<T>{});
  }
}

template <int S, class T>
MEMSUITE_INLINE T sum_of_blocks(Vec<T> v) {
  if constexpr (S == 0) {
    return v[0];
  } else {
    return sum_of_blocks<S / 2, T>(fold_blocks<S, T>(v, v, Lanes<T>{}));
  }
}

template <class T>
MEMSUITE_INLINE T sum_of_lanes(Vec<T> v) {
  return sum_of_blocks<Simd<T>::lanes / 2, T>(v);
}

// The same sum, from the first lane to the last.
template <class T>
MEMSUITE_INLINE T sum_in_order(Vec<T> v) {
  T sum = 0;
  for (int i = 0; i < Simd<T>::lanes; ++i) sum += v[i];
  return sum;
}

// Lane r is the sum of the lanes of row r, and zero if there is no such row. R is 1 or the number of lanes.
template <int R, class T>
MEMSUITE_INLINE Vec<T> fold(const Vec<T>* rows) {
  static_assert(R == 1 || R == Simd<T>::lanes);
  if constexpr (R == Simd<T>::lanes) {
    return fold_rows<1, T>(rows);
  } else {
    Vec<T> v{};
    v[0] = sum_of_lanes<T>(rows[0]);
    return v;
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
