// The actions of a categorical policy, checked.
#pragma once

#include "common/tensors.h"

namespace memsuite {

// The actions [..] of logits [.., A], each in [0, A).
inline Input actions_of(const Tensor& actions, const Tensor& logits) {
  STD_TORCH_CHECK(logits.dim() > 0, "memsuite: logits must be [.., A]");
  Input chosen(actions, ScalarType::Long, leading(logits));
  const int64_t* action = chosen;
  const int64_t width = last_of(logits), rows = rows_of(logits);
  for (int64_t n = 0; n < rows; ++n)
    STD_TORCH_CHECK(action[n] >= 0 && action[n] < width, "memsuite: an action is out of range");
  return chosen;
}

}  // namespace memsuite
