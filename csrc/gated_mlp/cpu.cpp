// The gated perceptron on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "gated_mlp/job.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> gated_mlp(const Tensor& x, const Tensor& up, const Tensor& down, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && up.dim() == 2 && down.dim() == 2,
                  "memsuite::gated_mlp: x must be [.., D], up [2 I, D], down [D, I]");
  const int64_t width = last_of(x), inner = down.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), u(up, type, {2 * inner, width}), d(down, type, {width, inner});
  const Output y(x, shape_of(x, width)), hidden(x, shape_of(x, 2 * inner)), scale(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    GatedMlpJob<T> job{rows, width, inner, static_cast<T>(eps)};
    job.x = in, job.y = y, job.hidden = hidden, job.scale = scale;
    const PackedMap<T> upper(u, 2 * inner, width, true), lower(d, width, inner, true);
    share(rows, 3 * inner * width, 96, [&](int64_t first, int64_t last) {
      kernels<GatedMlpKernels<T>>().forward(job, upper.data, lower.data, first, last);
    });
  });
  return {y.tensor, hidden.tensor, scale.tensor};
}

std::tuple<Tensor, Tensor, Tensor> gated_mlp_backward(const Tensor& grad, const Tensor& x, const Tensor& up,
                                                      const Tensor& down, const Tensor& hidden, const Tensor& scale) {
  const int64_t width = last_of(x), inner = down.size(1), rows = rows_of(x), size = inner * width;
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), g(grad, type, shape_of(x, width)), u(up, type, {2 * inner, width});
  const Input d(down, type, {width, inner});
  const Saved kept(hidden, type, shape_of(x, 2 * inner)), factor(scale, type, shape_of(x, 1));
  const Output d_x(x, shape_of(x, width)), d_up(x, {2 * inner, width}), d_down(x, {width, inner});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    GatedMlpJob<T> job{rows, width, inner};
    job.x = in, job.grad = g, job.d_x = d_x, job.hidden = kept, job.scale = factor;
    const PackedMap<T> upper(u, 2 * inner, width, false), lower(d, width, inner, false);
    const Aligned<T> both(3 * size);
    in_parts(both.data, 3 * size, rows, 6 * size, [&](T* sums, int64_t first, int64_t last) {
      kernels<GatedMlpKernels<T>>().backward(job, upper.data, lower.data, sums, first, last);
    });
    std::copy(both.data, both.data + 2 * size, static_cast<T*>(d_up));
    std::copy(both.data + 2 * size, both.data + 3 * size, static_cast<T*>(d_down));
  });
  return {d_x.tensor, d_up.tensor, d_down.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("gated_mlp", TORCH_BOX(&Widened<&gated_mlp>::call));
  m.impl("gated_mlp_backward", TORCH_BOX((&Widened<&gated_mlp_backward, 1, 2, 3>::call)));
}

}  // namespace memsuite
