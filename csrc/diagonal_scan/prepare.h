// Shared by the CPU and the CUDA binding of the diagonal scan: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "diagonal_scan/job.h"

namespace memsuite::prepare {

// The job's sizes; a complex number counts as two.
template <class T>
DiagonalScanJob<T> diagonal_scan_job(const Shape& s, const Tensor& a, ScalarType type) {
  const bool complex = is_complex(type);
  return {s.T, s.B, complex ? 2 * s.D : s.D, a.dim() == 1, complex};
}

// The shape of the decay: constant in time, or one for every step and environment.
inline std::vector<int64_t> decay_shape(const Shape& s, const Tensor& a) {
  return a.dim() == 1 ? std::vector<int64_t>{s.D} : s.all();
}

// Calls run(job), which must fill job.out, and returns the states.
template <class Run>
Tensor diagonal_scan(const Tensor& a, const Tensor& x, const Tensor& reset, const Tensor& h0, const Run& run) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::diagonal_scan: x must be [T, B, D]");
  const Shape s(x);
  const ScalarType type = x.scalar_type();
  const Input decay(a, type, decay_shape(s, a)), in(x, type, s.all());
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Output out(x, s.all());
  by_type<true>(x, [&](auto number) {
    auto job = diagonal_scan_job<decltype(number)>(s, a, type);
    job.a = decay, job.x = in, job.h0 = h, job.reset = r, job.out = out;
    run(job);
  });
  return out.tensor;
}

// Calls run(job), which must fill job.dx, job.d_h0, and job.d_a or, for a constant decay, job.d_a_total.
template <class Run>
std::tuple<Tensor, Tensor, Tensor> diagonal_scan_backward(const Tensor& grad, const Tensor& a, const Tensor& out,
                                                          const Tensor& reset, const Tensor& h0, const Run& run) {
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const bool constant = a.dim() == 1;
  const Input decay(a, type, decay_shape(s, a)), states(out, type, s.all());
  const Input g(grad, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Output dx(out, s.all()), dh0(out, s.state()), da(out, constant ? s.state() : s.all());
  const Output total(out, {constant ? s.D : 0});
  by_type<true>(out, [&](auto number) {
    auto job = diagonal_scan_job<decltype(number)>(s, a, type);
    job.a = decay, job.h0 = h, job.states = states, job.grad = g, job.reset = r;
    job.d_a = da, job.d_a_total = total, job.dx = dx, job.d_h0 = dh0;
    run(job);
  });
  return {constant ? total.tensor : da.tensor, dx.tensor, dh0.tensor};
}

}  // namespace memsuite::prepare
