// The sLSTM recurrence on CPU tensors.
#include "common/gated_cpu.h"
#include "slstm_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> slstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                                              const Tensor& c0, const Tensor& n0, const Tensor& m0,
                                                              const Tensor& w_hh, const Tensor& b_hh) {
  return prepare::slstm_scan(gi, reset, h0, c0, n0, m0, w_hh, b_hh, false,
                             [](const auto& job) { gated_forward(job, 4); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> slstm_scan_backward(
    const Tensor& grad, const std::optional<Tensor>& grad_cells, const std::optional<Tensor>& grad_totals,
    const Tensor& states, const Tensor& cells, const Tensor& totals, const Tensor& gates, const Tensor& reset,
    const Tensor& h0, const Tensor& c0, const Tensor& n0, const Tensor& w_hh) {
  const int64_t D = last_of(states);
  const Output d_w(states, {4 * D, D}), d_b(states, {4 * D});
  const auto run = [&](auto& job) {
    job.d_w = d_w, job.d_b = d_b;
    gated_backward(job, 4);
  };
  const auto flow = prepare::slstm_scan_flow(grad, grad_cells, grad_totals, states, cells, totals, gates, reset, h0, c0,
                                             n0, w_hh, run);
  return {flow.d_gi, flow.d_h0, flow.d_c0, flow.d_n0, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("slstm_scan", TORCH_BOX(&Widened<&slstm_scan>::call));
  m.impl("slstm_scan_backward", TORCH_BOX(&Widened<&slstm_scan_backward>::call));
}

}  // namespace memsuite
