// Rotation by position on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "rotary/job.h"

namespace memsuite {
namespace {

Tensor turned(const Tensor& x, const Tensor& cos, const Tensor& sin, int direction) {
  STD_TORCH_CHECK(x.dim() > 1 && last_of(x) >= 2 * last_of(cos),
                  "memsuite::rotary: x must be [.., H, W] with W at least 2 F, where cos is [.., F]");
  const int64_t heads = x.size(x.dim() - 2), width = last_of(x), half = last_of(cos);
  const ScalarType type = x.scalar_type();
  std::vector<int64_t> angles = leading(x);
  angles.back() = half;
  const Input in(x, type, shape_of(x, width)), c(cos, type, angles), s(sin, type, angles);
  const Output y(x, shape_of(x, width));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    RotaryJob<T> job{heads, width, half, static_cast<T>(direction)};
    job.x = in, job.cos = c, job.sin = s, job.y = y;
    share(heads > 0 ? rows_of(x) / heads : 0, 2 * heads * width, 1,
          [&](int64_t first, int64_t last) { kernels<RotaryKernels<T>>().forward(job, first, last); });
  });
  return y.tensor;
}

Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin) { return turned(x, cos, sin, 1); }

Tensor rotary_backward(const Tensor& grad, const Tensor& cos, const Tensor& sin) { return turned(grad, cos, sin, -1); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("rotary", TORCH_BOX(&Widened<&rotary>::call));
  m.impl("rotary_backward", TORCH_BOX(&Widened<&rotary_backward>::call));
}

}  // namespace memsuite
