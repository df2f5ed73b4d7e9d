// Shared by the CPU and the CUDA binding of the GRU recurrence: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "gru_scan/job.h"

namespace memsuite::prepare {

// Calls run(job), which must fill job.out, job.gates and job.candidates, and returns them. With `transposed`, the job's
// weights are [D, 3 D].
template <class Run>
std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh,
                                            const Tensor& b_hh, bool transposed, const Run& run) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2 && w_hh.dim() == 2,
                  "memsuite::gru_scan: gi must be [T, B, 3 D], h0 [B, D], w_hh [3 D, D]");
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(3)), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w = transposed ? Input(torch::stable::transpose(w_hh, 0, 1), type, {s.D, 3 * s.D})
                             : Input(w_hh, type, {3 * s.D, s.D});
  const Input b(b_hh, type, {3 * s.D});
  const Output out(gi, s.all()), gates(gi, s.gates(3)), candidates(gi, s.all());
  by_type(gi, [&](auto number) {
    GruScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.reset = r, job.weights = w, job.biases = b;
    job.out = out, job.gates = gates, job.candidates = candidates;
    run(job);
  });
  return {out.tensor, gates.tensor, candidates.tensor};
}

// The gradients that pass through time: of gi, of g_n (the candidate's part of the recurrent product), and of h0.
struct GruScanFlow {
  Tensor d_gi, d_gn, d_h0;
};

// Calls run(job), which must fill job.d_gi, job.d_gn and job.d_h0. The caller computes the gradients of the weights.
template <class Run>
GruScanFlow gru_scan_flow(const Tensor& grad, const Tensor& states, const Tensor& gates, const Tensor& candidates,
                          const Tensor& reset, const Tensor& h0, const Tensor& w_hh, const Run& run) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  const Input h(h0, type, s.state()), w(w_hh, type, {3 * s.D, s.D});
  const Saved saved(gates, type, s.gates(3)), n(candidates, type, s.all());
  const Output d_gi(states, s.gates(3)), d_gn(states, s.all()), d_h0(states, s.state());
  by_type(states, [&](auto number) {
    GruScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.reset = r, job.weights = w;
    job.gates = saved, job.candidates = n;
    job.d_gi = d_gi, job.d_gn = d_gn, job.d_h0 = d_h0;
    run(job);
  });
  return {d_gi.tensor, d_gn.tensor, d_h0.tensor};
}

}  // namespace memsuite::prepare
