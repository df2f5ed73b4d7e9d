// The map between wide features on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "wide_linear/job.h"

namespace memsuite {
namespace {

void check_wide_linear(const Tensor& x, const Tensor& weight, int64_t kind) {
  STD_TORCH_CHECK(x.dim() > 0 && weight.dim() == 2, "memsuite::wide_linear: x must be [.., K], weight [D, K]");
  STD_TORCH_CHECK(kPlain <= kind && kind <= kEluPlusOne, "memsuite::wide_linear: no such function");
}

Tensor wide_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t kind) {
  check_wide_linear(x, weight, kind);
  const int64_t depth = weight.size(1), width = weight.size(0), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, depth)), w(weight, type, {width, depth}), b(bias, type, {width});
  const Output y(x, shape_of(x, width));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    WideLinearJob<T> job{rows, depth, width};
    job.x = in, job.bias = b, job.y = y;
    const PackedMap<T> packed(w, width, depth, true);
    share(rows, depth * width, 96, [&](int64_t first, int64_t last) {
      kernels<WideLinearKernels<T>>().forward[kind](job, packed.data, first, last);
    });
  });
  return y.tensor;
}

std::tuple<Tensor, Tensor, Tensor> wide_linear_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                        const Tensor& y, int64_t kind) {
  check_wide_linear(x, weight, kind);
  const int64_t depth = weight.size(1), width = weight.size(0), rows = rows_of(x), size = width * depth;
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, depth)), w(weight, type, {width, depth}), g(grad, type, shape_of(x, width));
  const Saved out(kind == kPlain ? grad : y, type, shape_of(x, width));  // a plain map has kept no output
  const Output d_x(x, shape_of(x, depth)), d_w(weight, {width, depth}), d_b(weight, {width});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    WideLinearJob<T> job{rows, depth, width};
    job.x = in, job.grad = g, job.y = out, job.d_x = d_x;
    const PackedMap<T> packed(w, width, depth, false);
    const Aligned<T> both(size + width);
    in_parts(both.data, size + width, rows, 2 * size, [&](T* sums, int64_t first, int64_t last) {
      kernels<WideLinearKernels<T>>().backward[kind](job, packed.data, sums, first, last);
    });
    std::copy(both.data, both.data + size, static_cast<T*>(d_w));
    std::copy(both.data + size, both.data + size + width, static_cast<T*>(d_b));
  });
  return {d_x.tensor, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("wide_linear", TORCH_BOX(&Widened<&wide_linear>::call));
  m.impl("wide_linear_backward", TORCH_BOX((&Widened<&wide_linear_backward, 1, 2, 2>::call)));
}

}  // namespace memsuite
