// PPO's loss on CPU tensors.
#include "common/actions.h"
#include "common/kernels.h"
#include "common/threads.h"
#include "surrogate/job.h"

namespace memsuite {
namespace {

constexpr int kTerms = 6;  // the length of TERMS in memsuite/ops/fused/surrogate.py

// Runs the loops, and computes the loss and its terms from the sums over rows.
template <class T>
void run(const SurrogateJob<T>& job, double value_coefficient, double entropy_coefficient, T* total, T* terms) {
  double sums[kLossSums] = {};
  in_parts(sums, kLossSums, job.rows, 16 * job.width, [&](double* part, int64_t first, int64_t last) {
    kernels<SurrogateKernels<T>>().forward(job, part, first, last);
  });
  for (double& sum : sums) sum /= static_cast<double>(job.rows);
  const double policy = -sums[kPolicy], value = 0.5 * sums[kValue];
  const double loss = policy + value_coefficient * value - entropy_coefficient * sums[kBonus];
  const double all[kTerms] = {loss, policy, value, sums[kEntropy], sums[kKl], sums[kClipped]};
  for (int i = 0; i < kTerms; ++i) terms[i] = static_cast<T>(all[i]);
  *total = static_cast<T>(loss);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> surrogate(const Tensor& logits, const Tensor& values, const Tensor& actions,
                                                     const Tensor& old_log_probs, const Tensor& old_values,
                                                     const Tensor& advantages, const Tensor& returns, double clip,
                                                     std::optional<double> value_clip, double value_coefficient,
                                                     double entropy_coefficient, bool by_advantage) {
  const Input chosen = actions_of(actions, logits);
  const ScalarType type = logits.scalar_type();
  const int64_t width = last_of(logits), rows = rows_of(logits);
  const std::vector<int64_t> shape = leading(logits);
  const Input in(logits, type, shape_of(logits, width)), v(values, type, shape), old_p(old_log_probs, type, shape);
  const Input old_v(old_values, type, shape), weights(advantages, type, shape), targets(returns, type, shape);
  const Output total(logits, {}), terms(logits, {kTerms}), d_logits(logits, shape_of(logits, width));
  const Output d_values(logits, shape);
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    SurrogateJob<T> job{rows, width, static_cast<T>(clip), static_cast<T>(value_clip.value_or(0))};
    job.value_coefficient = static_cast<T>(value_coefficient);
    job.entropy_coefficient = static_cast<T>(entropy_coefficient);
    job.clips_value = value_clip.has_value(), job.by_advantage = by_advantage;
    job.logits = in, job.values = v, job.actions = chosen, job.old_log_probs = old_p, job.old_values = old_v;
    job.advantages = weights, job.returns = targets, job.d_logits = d_logits, job.d_values = d_values;
    run<T>(job, value_coefficient, entropy_coefficient, total, terms);
  });
  return {total.tensor, terms.tensor, d_logits.tensor, d_values.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) { m.impl("surrogate", TORCH_BOX(&surrogate)); }

}  // namespace memsuite
