// The arguments of a kernel of the log-probability; see memsuite/ops/fused/log_prob.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// logits are [rows, width]; actions and log_prob [rows].
template <class T>
struct LogProbJob {
  int64_t rows, width;
  const T* logits = nullptr;
  const int64_t* actions = nullptr;
  T* log_prob = nullptr;
};

// Over rows [first, last).
template <class T>
struct LogProbKernels {
  void (*forward)(const LogProbJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
