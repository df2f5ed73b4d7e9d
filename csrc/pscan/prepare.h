// Shared by the CPU and the CUDA binding of the pseudo-mamba scan: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "pscan/job.h"

namespace memsuite::prepare {

// Calls run(job), which must fill job.out, and returns the states.
template <class Run>
Tensor pscan(const Tensor& x, const Tensor& reset, const Tensor& h0, const Run& run) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::pscan: x must be [T, B, D]");
  const Shape s(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Output out(x, s.all());
  by_type(x, [&](auto number) {
    PscanJob<decltype(number)> job{s.T, s.B, s.D};
    job.x = in, job.h0 = h, job.reset = r, job.out = out;
    run(job);
  });
  return out.tensor;
}

// Calls run(job), which must fill job.dx and job.d_h0, and returns both.
template <class Run>
std::tuple<Tensor, Tensor> pscan_backward(const Tensor& grad, const Tensor& out, const Tensor& reset, const Run& run) {
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const Input g(grad, type, s.all()), states(out, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  const Output dx(out, s.all()), dh0(out, s.state());
  by_type(out, [&](auto number) {
    PscanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = states, job.reset = r, job.dx = dx, job.d_h0 = dh0;
    run(job);
  });
  return {dx.tensor, dh0.tensor};
}

}  // namespace memsuite::prepare
