// The sLSTM recurrence on CUDA tensors.
#include "slstm_scan/cuda.h"

#include "common/cuda_binding.h"
#include "slstm_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> slstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                                              const Tensor& c0, const Tensor& n0, const Tensor& m0,
                                                              const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.size(0) > 0, "memsuite::slstm_scan: a sequence has at least one step");
  const Place place(gi, reset, h0, c0, n0, m0, w_hh, b_hh);
  return prepare::slstm_scan(gi, reset, h0, c0, n0, m0, w_hh, b_hh, true,
                             [&](const auto& job) { check(cuda::slstm_scan(job, place.stream)); });
}

// The recurrent half of slstm_scan_backward: d_gi, d_h0, d_c0 and d_n0. From the first, memsuite/ops/build/cuda.py
// computes the gradients of the weights by matrix products.
std::tuple<Tensor, Tensor, Tensor, Tensor> slstm_scan_flow(const Tensor& grad, const std::optional<Tensor>& grad_cells,
                                                           const std::optional<Tensor>& grad_totals,
                                                           const Tensor& states, const Tensor& cells,
                                                           const Tensor& totals, const Tensor& gates,
                                                           const Tensor& reset, const Tensor& h0, const Tensor& c0,
                                                           const Tensor& n0, const Tensor& w_hh) {
  const Tensor of_cells = grad_cells.value_or(grad), of_totals = grad_totals.value_or(grad);
  const Place place(states, grad, of_cells, of_totals, cells, totals, gates, reset, h0, c0, n0, w_hh);
  const auto flow =
      prepare::slstm_scan_flow(grad, grad_cells, grad_totals, states, cells, totals, gates, reset, h0, c0, n0, w_hh,
                               [&](const auto& job) { check(cuda::slstm_scan_flow(job, place.stream)); });
  return {flow.d_gi, flow.d_h0, flow.d_c0, flow.d_n0};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def(
      "slstm_scan_flow(Tensor grad, Tensor? grad_cells, Tensor? grad_totals, Tensor states, Tensor cells,"
      " Tensor totals, Tensor gates, Tensor reset, Tensor h0, Tensor c0, Tensor n0, Tensor w_hh)"
      " -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("slstm_scan", TORCH_BOX(&Widened<&slstm_scan>::call));
  m.impl("slstm_scan_flow", TORCH_BOX(&Widened<&slstm_scan_flow>::call));
}

}  // namespace memsuite
