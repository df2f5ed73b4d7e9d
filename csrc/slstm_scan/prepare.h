// Shared by the CPU and the CUDA binding of the sLSTM recurrence: they check the same shapes and fill the same job.
#pragma once

#include "common/tensors.h"
#include "slstm_scan/job.h"

namespace memsuite::prepare {

// Calls run(job), which must fill job.out, job.cells, job.totals, job.peaks and job.gates, and returns them. With
// `transposed`, the job's weights are [D, 4 D].
template <class Run>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> slstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                                              const Tensor& c0, const Tensor& n0, const Tensor& m0,
                                                              const Tensor& w_hh, const Tensor& b_hh, bool transposed,
                                                              const Run& run) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2 && w_hh.dim() == 2,
                  "memsuite::slstm_scan: gi must be [T, B, 4 D], h0 [B, D], w_hh [4 D, D]");
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(4)), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input c(c0, type, s.state()), n(n0, type, s.state()), m(m0, type, s.state());
  const Input w = transposed ? Input(torch::stable::transpose(w_hh, 0, 1), type, {s.D, 4 * s.D})
                             : Input(w_hh, type, {4 * s.D, s.D});
  const Input b(b_hh, type, {4 * s.D});
  const Output out(gi, s.all()), cells(gi, s.all()), totals(gi, s.all()), peaks(gi, s.all()), gates(gi, s.gates(5));
  by_type(gi, [&](auto number) {
    SlstmScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.c0 = c, job.n0 = n, job.m0 = m, job.reset = r, job.weights = w, job.biases = b;
    job.out = out, job.cells = cells, job.totals = totals, job.peaks = peaks, job.gates = gates;
    run(job);
  });
  return {out.tensor, cells.tensor, totals.tensor, peaks.tensor, gates.tensor};
}

// The gradients that pass through time: of gi, h0, c0 and n0.
struct SlstmScanFlow {
  Tensor d_gi, d_h0, d_c0, d_n0;
};

// Calls run(job), which must fill job.d_gi, job.d_h0, job.d_c0 and job.d_n0. The caller computes the gradients of the
// weights.
template <class Run>
SlstmScanFlow slstm_scan_flow(const Tensor& grad, const std::optional<Tensor>& grad_cells,
                              const std::optional<Tensor>& grad_totals, const Tensor& states, const Tensor& cells,
                              const Tensor& totals, const Tensor& gates, const Tensor& reset, const Tensor& h0,
                              const Tensor& c0, const Tensor& n0, const Tensor& w_hh, const Run& run) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all());
  const Input g_c(grad_cells.value_or(grad), type, s.all()), g_n(grad_totals.value_or(grad), type, s.all());
  const Saved kept(cells, type, s.all()), sums(totals, type, s.all()), saved(gates, type, s.gates(5));
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input c(c0, type, s.state()), n(n0, type, s.state()), w(w_hh, type, {4 * s.D, s.D});
  const Output d_gi(states, s.gates(4)), d_h0(states, s.state()), d_c0(states, s.state()), d_n0(states, s.state());
  by_type(states, [&](auto number) {
    SlstmScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.c0 = c, job.n0 = n, job.reset = r, job.weights = w;
    if (grad_cells.has_value()) job.grad_cells = g_c;
    if (grad_totals.has_value()) job.grad_totals = g_n;
    job.cells = kept, job.totals = sums, job.gates = saved;
    job.d_gi = d_gi, job.d_h0 = d_h0, job.d_c0 = d_c0, job.d_n0 = d_n0;
    run(job);
  });
  return {d_gi.tensor, d_h0.tensor, d_c0.tensor, d_n0.tensor};
}

}  // namespace memsuite::prepare
