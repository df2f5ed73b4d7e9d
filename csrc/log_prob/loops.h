// The log-probability of an action under a categorical policy.
#pragma once

#include "common/categorical.h"
#include "common/offer.h"
#include "log_prob/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// log_prob [N] of the actions of rows [first, last) of logits [N, A].
template <class T>
void log_prob(const LogProbJob<T>& job, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = job.width;
  Scratch<T> columns(2 * width * L);
  for (int64_t n = first; n < last; n += L) {
    const int64_t count = last - n < L ? last - n : L;
    columns_of(columns.data, job.logits + n * width, count, width);
    Vec<T> sum, log_sum;
    normalise<T>(columns.data, columns.data + width * L, width, sum, log_sum);
    for (int64_t i = 0; i < count; ++i) job.log_prob[n + i] = columns.data[job.actions[n + i] * L + i] - log_sum[i];
  }
}

template <class T>
struct Offer<LogProbKernels<T>> {
  static constexpr LogProbKernels<T> all() {
    LogProbKernels<T> all{};
    all.forward = log_prob<T>;
    return all;
  }
};
template const LogProbKernels<float>& offered();
template const LogProbKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
