// Log-probability and entropy of categorical distributions: as many rows at once as a vector has lanes, so that nothing
// is added up across lanes.
#pragma once

#include "simd.h"

namespace memsuite::MEMSUITE_LEVEL {

// columns[a][lanes] = the logits of up to `lanes` rows; the rows that are missing get those of the first.
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

// log_prob [N], entropy [N] and log_sum [N] (the normaliser) of rows [first, last) of logits [N, A].
template <class T>
void categorical(const CategoricalJob<T>& job, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = job.width;
  Scratch<T> columns(width * L);
  for (int64_t n = first; n < last; n += L) {
    const int64_t count = last - n < L ? last - n : L;
    columns_of(columns.data, job.logits + n * width, count, width);
    Vec<T> top = load<true>(columns.data, L), sum{}, weighted{};
    for (int64_t a = 1; a < width; ++a) {
      const Vec<T> x = load<true>(columns.data + a * L, L);
      top = x > top ? x : top;
    }
    for (int64_t a = 0; a < width; ++a) {
      const Vec<T> x = load<true>(columns.data + a * L, L) - top, e = exp<T>(x);
      sum += e;
      weighted += e * x;
    }
    const Vec<T> mean = weighted / sum;
    for (int64_t i = 0; i < count; ++i) {
      const T log_sum = log_of(sum[i]);
      job.log_sum[n + i] = log_sum + top[i];
      job.entropy[n + i] = log_sum - mean[i];
      job.log_prob[n + i] = columns.data[job.actions[n + i] * L + i] - top[i] - log_sum;
    }
  }
}

// d_logits of rows [first, last).
template <class T>
void categorical_backward(const CategoricalJob<T>& job, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = job.width;
  Scratch<T> columns(width * L);
  for (int64_t n = first; n < last; n += L) {
    const int64_t count = last - n < L ? last - n : L;
    columns_of(columns.data, job.logits + n * width, count, width);
    const bool full = count == L;
    auto row = [&](const T* p) __attribute__((always_inline)) {
      return full ? load<true>(p + n, L) : load<false>(p + n, static_cast<int>(count));
    };
    const Vec<T> normaliser = row(job.log_sum), of_prob = row(job.d_log_prob), of_entropy = row(job.d_entropy);
    const Vec<T> entropy = row(job.entropy);
    for (int64_t a = 0; a < width; ++a) {
      const Vec<T> log_p = load<true>(columns.data + a * L, L) - normaliser, p = exp<T>(log_p);
      store<true>(columns.data + a * L, -p * (of_prob + of_entropy * (log_p + entropy)), L);
    }
    for (int64_t i = 0; i < count; ++i) {
      T* out = job.d_logits + (n + i) * width;
      for (int64_t a = 0; a < width; ++a) out[a] = columns.data[a * L + i];
      out[job.actions[n + i]] += of_prob[i];
    }
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
