// The log-probability of actions on CPU tensors.
#include "common/actions.h"
#include "common/kernels.h"
#include "common/threads.h"
#include "log_prob/job.h"

namespace memsuite {
namespace {

Tensor log_prob(const Tensor& logits, const Tensor& actions) {
  const Input chosen = actions_of(actions, logits);
  const int64_t width = last_of(logits), rows = rows_of(logits);
  const Input in(logits, logits.scalar_type(), shape_of(logits, width));
  const Output out(logits, leading(logits));
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    const LogProbJob<T> job{rows, width, in, chosen, out};
    share(rows, 8 * width, 64,
          [&](int64_t first, int64_t last) { kernels<LogProbKernels<T>>().forward(job, first, last); });
  });
  return out.tensor;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) { m.impl("log_prob", TORCH_BOX(&Widened<&log_prob>::call)); }

}  // namespace memsuite
