// Elman's recurrence on CPU tensors.
#include "common/gated_cpu.h"
#include "elman_scan/prepare.h"

namespace memsuite {
namespace {

Tensor elman_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh, const Tensor& b_hh) {
  return prepare::elman_scan(gi, reset, h0, w_hh, b_hh, false, [](const auto& job) { gated_forward(job, 1); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> elman_scan_backward(const Tensor& grad, const Tensor& states,
                                                               const Tensor& reset, const Tensor& h0,
                                                               const Tensor& w_hh) {
  const int64_t D = last_of(states);
  const Output d_w(states, {D, D}), d_b(states, {D});
  const auto [d_gi, d_h0] = prepare::elman_scan_flow(grad, states, reset, h0, w_hh, [&](auto& job) {
    job.d_w = d_w, job.d_b = d_b;
    gated_backward(job, 1);
  });
  return {d_gi, d_h0, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("elman_scan", TORCH_BOX(&Widened<&elman_scan>::call));
  m.impl("elman_scan_backward", TORCH_BOX(&Widened<&elman_scan_backward>::call));
}

}  // namespace memsuite
