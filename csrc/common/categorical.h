// The softmax of logits, for as many rows at once as a vector has lanes, so that nothing is added up across lanes.
#pragma once

#include "common/simd.h"

namespace memsuite::MEMSUITE_LEVEL {

// Packs the logits of `count` rows into columns[a][lanes]; lanes without a row get the logits of the first row.
template <class T>
MEMSUITE_INLINE void columns_of(T* columns, const T* logits, int64_t count, int64_t width) {
  constexpr int L = Simd<T>::lanes;
  for (int64_t i = 0; i < L; ++i)
    for (int64_t a = 0; a < width; ++a) columns[a * L + i] = logits[(i < count ? i : 0) * width + a];
}

template <class T>
MEMSUITE_INLINE T log_of(T x) {
  if constexpr (sizeof(T) == 4) return __builtin_logf(x);
  return __builtin_log(x);
}

// Subtracts the largest logit of each row from its logits and fills odds with their exponentials. sum is the sum of the
// odds of a row, log_sum its logarithm. Returns the entropy.
template <class T>
MEMSUITE_INLINE Vec<T> normalise(T* columns, T* odds, int64_t width, Vec<T>& sum, Vec<T>& log_sum) {
  constexpr int L = Simd<T>::lanes;
  Vec<T> top = load<true>(columns, L), weighted{};
  sum = Vec<T>{};
  for (int64_t a = 1; a < width; ++a) {
    const Vec<T> x = load<true>(columns + a * L, L);
    top = x > top ? x : top;
  }
  for (int64_t a = 0; a < width; ++a) {
    const Vec<T> x = load<true>(columns + a * L, L) - top, e = exp<T>(x);
    store<true>(columns + a * L, x, L);
    store<true>(odds + a * L, e, L);
    sum += e;
    weighted += e * x;
  }
  for (int i = 0; i < L; ++i) log_sum[i] = log_of(sum[i]);
  return log_sum - weighted / sum;
}

}  // namespace memsuite::MEMSUITE_LEVEL
