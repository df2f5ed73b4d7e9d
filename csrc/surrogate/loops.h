// PPO's loss and its gradients, for as many rows at once as a vector has lanes.
#pragma once

#include "common/categorical.h"
#include "common/fold.h"
#include "common/offer.h"
#include "surrogate/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// Sums over rows [first, last) of the parts of PPO's loss, in the order of LossSum, and the gradients of those rows.
template <class T>
void surrogate(const SurrogateJob<T>& job, double* sums, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  const int64_t width = job.width;
  const Vec<T> one = splat<T>(1), none{}, share = splat<T>(1 / static_cast<T>(job.rows));
  const T lowest = 1 - job.clip, highest = 1 + job.clip;
  Scratch<T> columns(2 * width * L);
  T* const odds = columns.data + width * L;  // exp(logit - top)
  Int<T> lane;
  for (int i = 0; i < L; ++i) lane[i] = i;
  Vec<T> all[kLossSums] = {};
  for (int64_t n = first; n < last; n += L) {
    const int64_t count = last - n < L ? last - n : L;
    const Int<T> there = lane < static_cast<decltype(+lane[0])>(count);
    auto row = [&](const T* p) __attribute__((always_inline)) {
      return count == L ? load<true>(p + n, L) : load<false>(p + n, static_cast<int>(count));
    };
    auto add = [&](int to, Vec<T> x) __attribute__((always_inline)) { all[to] += there ? x : none; };
    columns_of(columns.data, job.logits + n * width, count, width);
    Vec<T> sum, log_sum, chosen{};
    const Vec<T> entropy = normalise<T>(columns.data, odds, width, sum, log_sum);
    for (int64_t i = 0; i < count; ++i) chosen[i] = columns.data[job.actions[n + i] * L + i];

    const Vec<T> advantage = row(job.advantages);
    const Vec<T> log_ratio = chosen - log_sum - row(job.old_log_probs), ratio = exp<T>(log_ratio);
    const Vec<T> free = ratio * advantage, held = at_least(at_most(ratio, highest), lowest) * advantage;
    const Int<T> moves = ~(held < free) | ((ratio >= splat(lowest)) & (ratio <= splat(highest)));
    const Vec<T> d_log_prob = (moves ? free : none) * -share;
    add(kPolicy, free < held ? free : held);
    add(kKl, ratio - one - log_ratio);
    add(kClipped, (ratio - one > splat(job.clip)) | (one - ratio > splat(job.clip)) ? one : none);

    const Vec<T> value = row(job.values), target = row(job.returns), error = value - target;
    Vec<T> square = error * error, d_value = error;
    if (job.clips_value) {
      const Vec<T> old = row(job.old_values), moved = value - old;
      const Vec<T> bound = at_least(at_most(moved, job.value_clip), -job.value_clip), other = old + bound - target;
      const Int<T> beyond = ~(other * other <= square);
      square = beyond ? other * other : square;
      d_value = beyond ? (moved == bound ? other : none) : error;
    }
    add(kValue, square);
    d_value *= share * splat(job.value_coefficient);
    store<false>(job.d_values + n, d_value, static_cast<int>(count));

    const Vec<T> weight = !job.by_advantage ? one : advantage < none ? -advantage : advantage;
    const Vec<T> d_entropy = weight * share * splat(-job.entropy_coefficient);
    add(kEntropy, entropy);
    add(kBonus, entropy * weight);
    const Vec<T> per_sum = one / sum;
    for (int64_t a = 0; a < width; ++a) {
      const Vec<T> log_p = load<true>(columns.data + a * L, L) - log_sum, p = load<true>(odds + a * L, L) * per_sum;
      store<true>(odds + a * L, -p * (d_log_prob + d_entropy * (log_p + entropy)), L);
    }
    for (int64_t i = 0; i < count; ++i) {
      T* out = job.d_logits + (n + i) * width;
      for (int64_t a = 0; a < width; ++a) out[a] = odds[a * L + i];
      out[job.actions[n + i]] += d_log_prob[i];
    }
  }
  for (int i = 0; i < kLossSums; ++i) sums[i] = sum_of_lanes<T>(all[i]);
}

template <class T>
struct Offer<SurrogateKernels<T>> {
  static constexpr SurrogateKernels<T> all() {
    SurrogateKernels<T> all{};
    all.forward = surrogate<T>;
    return all;
  }
};
template const SurrogateKernels<float>& offered();
template const SurrogateKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
