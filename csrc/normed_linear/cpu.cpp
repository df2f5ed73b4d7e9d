// The map of normalised rows on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "normed_linear/job.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> normed_linear(const Tensor& x, const Tensor& weight, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && weight.dim() == 2, "memsuite::normed_linear: x must be [.., D], weight [A, D]");
  const int64_t narrow = weight.size(0), wide = weight.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, wide)), w(weight, type, {narrow, wide});
  const Output y(x, shape_of(x, narrow)), plain(x, shape_of(x, narrow)), scale(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const auto& packing = kernels<PackingKernels<T>>();
    NormedLinearJob<T> job{rows, narrow, wide, static_cast<T>(eps)};
    job.x = in, job.y = y, job.plain = plain, job.scale = scale;
    const Aligned<T> packed(packing.narrowing_size(narrow, wide));
    packing.pack_narrowing(packed.data, w, wide, narrow, 1, wide);
    share(rows, narrow * wide, 128, [&](int64_t first, int64_t last) {
      kernels<NormedLinearKernels<T>>().forward(job, packed.data, first, last);
    });
  });
  return {y.tensor, plain.tensor, scale.tensor};
}

std::tuple<Tensor, Tensor> normed_linear_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                  const Tensor& plain, const Tensor& scale) {
  const int64_t narrow = weight.size(0), wide = weight.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, wide)), w(weight, type, {narrow, wide}), g(grad, type, shape_of(x, narrow));
  const Saved saved(plain, type, shape_of(x, narrow)), factor(scale, type, shape_of(x, 1));
  const Output d_x(x, shape_of(x, wide)), d_w(weight, {narrow, wide});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NormedLinearJob<T> job{rows, narrow, wide};
    job.x = in, job.grad = g, job.d_x = d_x, job.plain = saved, job.scale = factor;
    const Packed<T> packed(w, narrow, wide, false);
    in_parts(static_cast<T*>(d_w), narrow * wide, rows, 2 * narrow * wide, [&](T* sums, int64_t first, int64_t last) {
      kernels<NormedLinearKernels<T>>().backward(job, packed.data, sums, first, last);
    });
  });
  return {d_x.tensor, d_w.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("normed_linear", TORCH_BOX(&Widened<&normed_linear>::call));
  m.impl("normed_linear_backward", TORCH_BOX((&Widened<&normed_linear_backward, 1, 2>::call)));
}

}  // namespace memsuite
