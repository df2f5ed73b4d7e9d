// The arguments of a kernel of PPO's loss; see memsuite/ops/fused/surrogate.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// The sums over rows from which the loss and its terms are computed; kBonus is the entropy with its weight in the loss.
enum LossSum { kPolicy, kValue, kEntropy, kBonus, kKl, kClipped, kLossSums };

// logits and d_logits are [rows, width], everything else [rows].
template <class T>
struct SurrogateJob {
  int64_t rows, width;
  T clip = 0, value_clip = 0, value_coefficient = 0, entropy_coefficient = 0;
  bool clips_value = false, by_advantage = false;
  const T *logits = nullptr, *values = nullptr, *old_log_probs = nullptr, *old_values = nullptr;
  const T *advantages = nullptr, *returns = nullptr;
  const int64_t* actions = nullptr;
  T *d_logits = nullptr, *d_values = nullptr;
};

// Over rows [first, last): fills their gradients, and `sums` [kLossSums] with the sums over them.
template <class T>
struct SurrogateKernels {
  void (*forward)(const SurrogateJob<T>&, double* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
