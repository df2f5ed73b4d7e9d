// The LSTM recurrence on CPU tensors.
#include "common/gated_cpu.h"
#include "lstm_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> lstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& c0,
                                             const Tensor& w_hh, const Tensor& b_hh) {
  return prepare::lstm_scan(gi, reset, h0, c0, w_hh, b_hh, false, [](const auto& job) { gated_forward(job, 4); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lstm_scan_backward(
    const Tensor& grad, const std::optional<Tensor>& grad_cells, const Tensor& states, const Tensor& cells,
    const Tensor& gates, const Tensor& reset, const Tensor& h0, const Tensor& c0, const Tensor& w_hh) {
  const int64_t D = last_of(states);
  const Output d_w(states, {4 * D, D}), d_b(states, {4 * D});
  const auto run = [&](auto& job) {
    job.d_w = d_w, job.d_b = d_b;
    gated_backward(job, 4);
  };
  const auto flow = prepare::lstm_scan_flow(grad, grad_cells, states, cells, gates, reset, h0, c0, w_hh, run);
  return {flow.d_gi, flow.d_h0, flow.d_c0, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("lstm_scan", TORCH_BOX(&Widened<&lstm_scan>::call));
  m.impl("lstm_scan_backward", TORCH_BOX(&Widened<&lstm_scan_backward>::call));
}

}  // namespace memsuite
