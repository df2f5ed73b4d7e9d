// Elman's recurrence on CPU tensors.
#include "common/gated_cpu.h"
#include "common/tensors.h"
#include "elman_scan/job.h"

namespace memsuite {
namespace {

Tensor elman_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.dim() == 3, "memsuite::elman_scan: gi must be [T, B, D]");
  const Shape s(gi);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(w_hh, type, {s.D, s.D}), b(b_hh, type, {s.D});
  const Output out(gi, s.all());
  by_type(gi, [&](auto number) {
    ElmanScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.reset = r, job.weights = w, job.biases = b, job.out = out;
    gated_forward(job, 1);
  });
  return out.tensor;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> elman_scan_backward(const Tensor& grad, const Tensor& states,
                                                               const Tensor& reset, const Tensor& h0,
                                                               const Tensor& w_hh) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  const Input h(h0, type, s.state()), w(w_hh, type, {s.D, s.D});
  const Output d_gi(states, s.all()), d_h0(states, s.state()), d_w(states, {s.D, s.D}), d_b(states, {s.D});
  by_type(states, [&](auto number) {
    ElmanScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.reset = r, job.weights = w;
    job.d_gi = d_gi, job.d_h0 = d_h0, job.d_w = d_w, job.d_b = d_b;
    gated_backward(job, 1);
  });
  return {d_gi.tensor, d_h0.tensor, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("elman_scan", TORCH_BOX(&Widened<&elman_scan>::call));
  m.impl("elman_scan_backward", TORCH_BOX(&Widened<&elman_scan_backward>::call));
}

}  // namespace memsuite
