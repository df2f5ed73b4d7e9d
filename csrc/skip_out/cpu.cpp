// The output of a Mamba block on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "skip_out/job.h"

namespace memsuite {
namespace {

// The checked inputs of both directions.
struct SkipOutInputs {
  const int64_t size, width, rows;
  const ScalarType type;
  const Input y, u, z, skip, weight;

  SkipOutInputs(const Tensor& y, const Tensor& u, const Tensor& z, const Tensor& skip, const Tensor& weight)
      : size(last_of(y)),
        width(weight.size(0)),
        rows(rows_of(y)),
        type(y.scalar_type()),
        y(y, type, shape_of(y, size)),
        u(u, type, shape_of(y, size)),
        z(z, type, shape_of(y, size)),
        skip(skip, type, {size}),
        weight(weight, type, {width, size}) {}

  template <class T>
  SkipOutJob<T> job(std::optional<double> eps) const {
    SkipOutJob<T> job{rows, size, width, static_cast<T>(eps.value_or(-1))};
    job.y = y, job.u = u, job.z = z, job.skip = skip;
    return job;
  }
};

Tensor skip_out(const Tensor& y, const Tensor& u, const Tensor& z, const Tensor& skip, const Tensor& weight,
                std::optional<double> eps) {
  STD_TORCH_CHECK(y.dim() > 0 && weight.dim() == 2, "memsuite::skip_out: y must be [.., E], weight [D, E]");
  const SkipOutInputs in(y, u, z, skip, weight);
  const Output out(y, shape_of(y, in.width));
  by_type(y, [&](auto number) {
    using T = decltype(number);
    SkipOutJob<T> job = in.job<T>(eps);
    job.out = out;
    const PackedMap<T> packed(in.weight, in.width, in.size, true);
    share(in.rows, in.size * in.width, 96,
          [&](int64_t first, int64_t last) { kernels<SkipOutKernels<T>>().forward(job, packed.data, first, last); });
  });
  return out.tensor;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> skip_out_backward(const Tensor& grad, const Tensor& y,
                                                                     const Tensor& u, const Tensor& z,
                                                                     const Tensor& skip, const Tensor& weight,
                                                                     std::optional<double> eps) {
  const SkipOutInputs in(y, u, z, skip, weight);
  const Input g(grad, in.type, shape_of(y, in.width));
  const Output d_y(y, shape_of(y, in.size)), d_u(y, shape_of(y, in.size)), d_z(y, shape_of(y, in.size));
  const Output d_skip(y, {in.size}), d_w(y, {in.width, in.size});
  by_type(y, [&](auto number) {
    using T = decltype(number);
    SkipOutJob<T> job = in.job<T>(eps);
    job.grad = g, job.d_y = d_y, job.d_u = d_u, job.d_z = d_z;
    const PackedMap<T> packed(in.weight, in.width, in.size, false);
    const int64_t size = in.width * in.size;
    const Aligned<T> both(size + in.size);
    in_parts(both.data, size + in.size, in.rows, 3 * size, [&](T* sums, int64_t first, int64_t last) {
      kernels<SkipOutKernels<T>>().backward(job, packed.data, sums, first, last);
    });
    std::copy(both.data, both.data + size, static_cast<T*>(d_w));
    std::copy(both.data + size, both.data + size + in.size, static_cast<T*>(d_skip));
  });
  return {d_y.tensor, d_u.tensor, d_z.tensor, d_skip.tensor, d_w.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("skip_out", TORCH_BOX(&Widened<&skip_out>::call));
  m.impl("skip_out_backward", TORCH_BOX((&Widened<&skip_out_backward, 1, 2, 3, 4, 5>::call)));
}

}  // namespace memsuite
