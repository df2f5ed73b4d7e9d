// Shared by the CPU and the CUDA binding of Elman's recurrence: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "elman_scan/job.h"

namespace memsuite::prepare {

// Calls run(job), which must fill job.out, and returns it. With `transposed`, the job's weights are.
template <class Run>
Tensor elman_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh, const Tensor& b_hh,
                  bool transposed, const Run& run) {
  STD_TORCH_CHECK(gi.dim() == 3 && w_hh.dim() == 2, "memsuite::elman_scan: gi must be [T, B, D], w_hh [D, D]");
  const Shape s(gi);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(transposed ? torch::stable::transpose(w_hh, 0, 1) : w_hh, type, {s.D, s.D}), b(b_hh, type, {s.D});
  const Output out(gi, s.all());
  by_type(gi, [&](auto number) {
    ElmanScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.reset = r, job.weights = w, job.biases = b, job.out = out;
    run(job);
  });
  return out.tensor;
}

// Calls run(job), which must fill job.d_gi and job.d_h0, and returns both. The caller computes the gradients of the
// weights.
template <class Run>
std::tuple<Tensor, Tensor> elman_scan_flow(const Tensor& grad, const Tensor& states, const Tensor& reset,
                                           const Tensor& h0, const Tensor& w_hh, const Run& run) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  const Input h(h0, type, s.state()), w(w_hh, type, {s.D, s.D});
  const Output d_gi(states, s.all()), d_h0(states, s.state());
  by_type(states, [&](auto number) {
    ElmanScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.reset = r, job.weights = w;
    job.d_gi = d_gi, job.d_h0 = d_h0;
    run(job);
  });
  return {d_gi.tensor, d_h0.tensor};
}

}  // namespace memsuite::prepare
