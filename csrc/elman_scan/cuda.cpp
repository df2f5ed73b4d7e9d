// Elman's recurrence on CUDA tensors.
#include "elman_scan/cuda.h"

#include "common/cuda_binding.h"
#include "elman_scan/prepare.h"

namespace memsuite {
namespace {

Tensor elman_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.size(0) > 0, "memsuite::elman_scan: a sequence has at least one step");
  const Place place(gi, reset, h0, w_hh, b_hh);
  return prepare::elman_scan(gi, reset, h0, w_hh, b_hh, true,
                             [&](const auto& job) { check(cuda::elman_scan(job, place.stream)); });
}

// The recurrent half of elman_scan_backward: d_gi and d_h0. From the first, memsuite/ops/build/cuda.py computes the
// gradients of the weights by a matrix product.
std::tuple<Tensor, Tensor> elman_scan_flow(const Tensor& grad, const Tensor& states, const Tensor& reset,
                                           const Tensor& h0, const Tensor& w_hh) {
  const Place place(states, grad, reset, h0, w_hh);
  return prepare::elman_scan_flow(grad, states, reset, h0, w_hh,
                                  [&](const auto& job) { check(cuda::elman_scan_flow(job, place.stream)); });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def(
      "elman_scan_flow(Tensor grad, Tensor states, Tensor reset, Tensor h0, Tensor w_hh)"
      " -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("elman_scan", TORCH_BOX(&Widened<&elman_scan>::call));
  m.impl("elman_scan_flow", TORCH_BOX(&Widened<&elman_scan_flow>::call));
}

}  // namespace memsuite
