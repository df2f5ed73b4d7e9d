// The LSTM recurrence on CUDA tensors.
#include "lstm_scan/cuda.h"

#include "common/cuda_binding.h"
#include "lstm_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> lstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& c0,
                                             const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.size(0) > 0, "memsuite::lstm_scan: a sequence has at least one step");
  const Place place(gi, reset, h0, c0, w_hh, b_hh);
  return prepare::lstm_scan(gi, reset, h0, c0, w_hh, b_hh, true,
                            [&](const auto& job) { check(cuda::lstm_scan(job, place.stream)); });
}

// The recurrent half of lstm_scan_backward: d_gi, d_h0 and d_c0. From the first, memsuite/ops/build/cuda.py computes
// the gradients of the weights by matrix products.
std::tuple<Tensor, Tensor, Tensor> lstm_scan_flow(const Tensor& grad, const std::optional<Tensor>& grad_cells,
                                                  const Tensor& states, const Tensor& cells, const Tensor& gates,
                                                  const Tensor& reset, const Tensor& h0, const Tensor& c0,
                                                  const Tensor& w_hh) {
  const Tensor of_cells = grad_cells.value_or(grad);
  const Place place(states, grad, of_cells, cells, gates, reset, h0, c0, w_hh);
  const auto flow = prepare::lstm_scan_flow(grad, grad_cells, states, cells, gates, reset, h0, c0, w_hh,
                                            [&](const auto& job) { check(cuda::lstm_scan_flow(job, place.stream)); });
  return {flow.d_gi, flow.d_h0, flow.d_c0};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def(
      "lstm_scan_flow(Tensor grad, Tensor? grad_cells, Tensor states, Tensor cells, Tensor gates, Tensor reset,"
      " Tensor h0, Tensor c0, Tensor w_hh) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("lstm_scan", TORCH_BOX(&Widened<&lstm_scan>::call));
  m.impl("lstm_scan_flow", TORCH_BOX(&Widened<&lstm_scan_flow>::call));
}

}  // namespace memsuite
