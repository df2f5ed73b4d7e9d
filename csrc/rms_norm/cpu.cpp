// RMSNorm on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "rms_norm/job.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, const Tensor& gain, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && gain.dim() == 1, "memsuite::rms_norm: x must be [.., D], gain [D]");
  const int64_t width = last_of(x), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), w(gain, type, {width});
  const Output y(x, shape_of(x, width)), scale(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    RmsNormJob<T> job{rows, width, static_cast<T>(eps)};
    job.x = in, job.gain = w, job.y = y, job.scale = scale;
    share(rows, width, 1, [&](int64_t first, int64_t last) { kernels<RmsNormKernels<T>>().forward(job, first, last); });
  });
  return {y.tensor, scale.tensor};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& gain,
                                             const Tensor& scale) {
  const int64_t width = last_of(x), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), g(grad, type, shape_of(x, width)), w(gain, type, {width});
  const Saved factor(scale, type, shape_of(x, 1));
  const Output d_x(x, shape_of(x, width)), d_gain(x, {width});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    RmsNormJob<T> job{rows, width};
    job.x = in, job.gain = w, job.grad = g, job.d_x = d_x, job.scale = factor;
    in_parts(static_cast<T*>(d_gain), width, rows, 4 * width, [&](T* sums, int64_t first, int64_t last) {
      kernels<RmsNormKernels<T>>().backward(job, sums, first, last);
    });
  });
  return {d_x.tensor, d_gain.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("rms_norm", TORCH_BOX(&Widened<&rms_norm>::call));
  m.impl("rms_norm_backward", TORCH_BOX((&Widened<&rms_norm_backward, 1, 2>::call)));
}

}  // namespace memsuite
