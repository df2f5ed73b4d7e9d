// The diagonal scan on CUDA tensors.
#include "diagonal_scan/cuda.h"

#include "common/cuda_binding.h"
#include "diagonal_scan/prepare.h"

namespace memsuite {
namespace {

Tensor diagonal_scan(const Tensor& a, const Tensor& x, const Tensor& reset, const Tensor& h0) {
  const Place place(x, a, reset, h0);
  return prepare::diagonal_scan(a, x, reset, h0,
                                [&](const auto& job) { check(cuda::diagonal_scan(job, place.stream)); });
}

std::tuple<Tensor, Tensor, Tensor> diagonal_scan_backward(const Tensor& grad, const Tensor& a, const Tensor& out,
                                                          const Tensor& reset, const Tensor& h0) {
  const Place place(out, grad, a, reset, h0);
  return prepare::diagonal_scan_backward(
      grad, a, out, reset, h0, [&](const auto& job) { check(cuda::diagonal_scan_backward(job, place.stream)); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("diagonal_scan", TORCH_BOX(&Widened<&diagonal_scan>::call));
  m.impl("diagonal_scan_backward", TORCH_BOX(&Widened<&diagonal_scan_backward>::call));
}

}  // namespace memsuite
