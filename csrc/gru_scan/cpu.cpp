// The GRU recurrence on CPU tensors.
#include "common/gated_cpu.h"
#include "gru_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh,
                                            const Tensor& b_hh) {
  return prepare::gru_scan(gi, reset, h0, w_hh, b_hh, false, [](const auto& job) { gated_forward(job, 3); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gru_scan_backward(const Tensor& grad, const Tensor& states,
                                                             const Tensor& gates, const Tensor& candidates,
                                                             const Tensor& reset, const Tensor& h0,
                                                             const Tensor& w_hh) {
  const int64_t size = states.size(2);
  const Output d_w(states, {3 * size, size}), d_b(states, {3 * size});
  const auto run = [&](auto& job) {
    job.d_w = d_w, job.d_b = d_b;
    gated_backward(job, 3);
  };
  const auto flow = prepare::gru_scan_flow(grad, states, gates, candidates, reset, h0, w_hh, run);
  return {flow.d_gi, flow.d_h0, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("gru_scan", TORCH_BOX(&Widened<&gru_scan>::call));
  m.impl("gru_scan_backward", TORCH_BOX(&Widened<&gru_scan_backward>::call));
}

}  // namespace memsuite
