// The GRU recurrence on CUDA tensors.
#include "gru_scan/cuda.h"

#include "common/cuda_binding.h"
#include "gru_scan/prepare.h"

namespace memsuite {
namespace {

std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh,
                                            const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.size(0) > 0, "memsuite::gru_scan: a sequence has at least one step");
  const Place place(gi, reset, h0, w_hh, b_hh);
  return prepare::gru_scan(gi, reset, h0, w_hh, b_hh, true,
                           [&](const auto& job) { check(cuda::gru_scan(job, place.stream)); });
}

// The recurrent half of gru_scan_backward: d_gi, the gradient of g_n, d_h0, and the states before each step. From these
// memsuite/ops/build/cuda.py computes the gradients of the weights by matrix products.
std::tuple<Tensor, Tensor, Tensor, Tensor> gru_scan_flow(const Tensor& grad, const Tensor& states, const Tensor& gates,
                                                         const Tensor& candidates, const Tensor& reset,
                                                         const Tensor& h0, const Tensor& w_hh) {
  const Place place(states, grad, gates, candidates, reset, h0, w_hh);
  const Output previous(states, Shape(states).all());
  const auto run = [&](auto& job) {
    job.previous = previous;
    check(cuda::gru_scan_flow(job, place.stream));
  };
  const auto flow = prepare::gru_scan_flow(grad, states, gates, candidates, reset, h0, w_hh, run);
  return {flow.d_gi, flow.d_gn, flow.d_h0, previous.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def(
      "gru_scan_flow(Tensor grad, Tensor states, Tensor gates, Tensor candidates, Tensor reset, Tensor h0,"
      " Tensor w_hh) -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("gru_scan", TORCH_BOX(&Widened<&gru_scan>::call));
  m.impl("gru_scan_flow", TORCH_BOX(&Widened<&gru_scan_flow>::call));
}

}  // namespace memsuite
