// Shared by the CPU and the CUDA binding of the selective scan: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "selective_scan/job.h"

namespace memsuite::prepare {

// Steps between the saved states; STEPS in memsuite/ops/scans/selective_scan.py, and opcheck compares the shapes.
constexpr int64_t kBlock = 16;

// The shapes of a call with N states for each channel.
struct SelectiveScanShape : Shape {
  int64_t N;
  SelectiveScanShape(const Tensor& u, const Tensor& a) : Shape(u), N(a.size(1)) {}
  std::vector<int64_t> rates() const { return {D, N}; }
  std::vector<int64_t> weights() const { return {T, B, N}; }
  std::vector<int64_t> last() const { return {B, D, N}; }
  std::vector<int64_t> saved() const { return {(T + kBlock - 1) / kBlock, B, N, D}; }
};

// Calls run(job), which must fill job.y, job.saved and job.last, and returns them.
template <class Run>
std::tuple<Tensor, Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
                                                  const Tensor& c, const Tensor& reset, const Tensor& h0,
                                                  const Run& run) {
  STD_TORCH_CHECK(u.dim() == 3 && a.dim() == 2, "memsuite::selective_scan: u must be [T, B, D], a [D, N]");
  const SelectiveScanShape s(u, a);
  const ScalarType type = u.scalar_type();
  const Input in(u, type, s.all()), steps(dt, type, s.all()), rates(a, type, s.rates());
  const Input write(b, type, s.weights()), read(c, type, s.weights());
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.last());
  const Output y(u, s.all()), saved(u, s.saved()), last(u, s.last());
  by_type(u, [&](auto number) {
    SelectiveScanJob<decltype(number)> job{s.T, s.B, s.D, s.N, kBlock};
    job.u = in, job.dt = steps, job.a = rates, job.b = write, job.c = read, job.reset = r, job.h0 = h;
    job.y = y, job.saved = saved, job.last = last;
    run(job);
  });
  return {y.tensor, saved.tensor, last.tensor};
}

// Calls run(job), which must fill the six gradients of the job, and returns them.
template <class Run>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& grad, const Tensor& grad_last, const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
    const Tensor& c, const Tensor& reset, const Tensor& saved, const Run& run) {
  const SelectiveScanShape s(u, a);
  const ScalarType type = u.scalar_type();
  const Input g(grad, type, s.all()), g_last(grad_last, type, s.last());
  const Input in(u, type, s.all()), steps(dt, type, s.all()), rates(a, type, s.rates());
  const Input write(b, type, s.weights()), read(c, type, s.weights()), r(reset, ScalarType::Bool, s.rows());
  const Saved kept(saved, type, s.saved());
  const Output d_u(u, s.all()), d_dt(u, s.all()), d_a(u, s.rates());
  const Output d_b(b, s.weights()), d_c(c, s.weights()), d_h0(u, s.last());
  by_type(u, [&](auto number) {
    SelectiveScanJob<decltype(number)> job{s.T, s.B, s.D, s.N, kBlock};
    job.u = in, job.dt = steps, job.a = rates, job.b = write, job.c = read, job.reset = r;
    job.grad = g, job.grad_last = g_last, job.saved = kept;
    job.d_u = d_u, job.d_dt = d_dt, job.d_a = d_a, job.d_b = d_b, job.d_c = d_c, job.d_h0 = d_h0;
    run(job);
  });
  return {d_u.tensor, d_dt.tensor, d_a.tensor, d_b.tensor, d_c.tensor, d_h0.tensor};
}

}  // namespace memsuite::prepare
