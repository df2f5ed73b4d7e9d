// The map from a narrow input on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "narrow_linear/job.h"

namespace memsuite {
namespace {

Tensor narrow_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  STD_TORCH_CHECK(x.dim() > 0 && weight.dim() == 2, "memsuite::narrow_linear: x must be [.., K], weight [D, K]");
  const int64_t narrow = weight.size(1), wide = weight.size(0), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, narrow)), w(weight, type, {wide, narrow}), b(bias, type, {wide});
  const Output y(x, shape_of(x, wide));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NarrowLinearJob<T> job{rows, narrow, wide};
    job.x = in, job.bias = b, job.y = y;
    const Packed<T> packed(w, wide, narrow, true);
    share(rows, narrow * wide, 128, [&](int64_t first, int64_t last) {
      kernels<NarrowLinearKernels<T>>().forward(job, packed.data, first, last);
    });
  });
  return y.tensor;
}

std::tuple<Tensor, Tensor> narrow_linear_backward(const Tensor& grad, const Tensor& x) {
  const int64_t narrow = last_of(x), wide = last_of(grad), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, narrow)), g(grad, type, shape_of(x, wide));
  Output both(x, {narrow + 1, wide});  // the weight's gradient, transposed, and the bias's
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NarrowLinearJob<T> job{rows, narrow, wide};
    job.x = in, job.grad = g;
    in_parts(static_cast<T*>(both), (narrow + 1) * wide, rows, narrow * wide,
             [&](T* sums, int64_t first, int64_t last) {
               kernels<NarrowLinearKernels<T>>().backward(job, sums, sums + narrow * wide, first, last);
             });
  });
  const Tensor d_w = torch::stable::transpose(torch::stable::narrow(both.tensor, 0, 0, narrow), 0, 1);
  return {torch::stable::contiguous(d_w), torch::stable::clone(torch::stable::select(both.tensor, 0, narrow))};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("narrow_linear", TORCH_BOX(&Widened<&narrow_linear>::call));
  m.impl("narrow_linear_backward", TORCH_BOX(&Widened<&narrow_linear_backward>::call));
}

}  // namespace memsuite
