// The pseudo-mamba scan on CUDA tensors.
#include "pscan/cuda.h"

#include "common/cuda_binding.h"
#include "pscan/prepare.h"

namespace memsuite {
namespace {

Tensor pscan(const Tensor& x, const Tensor& reset, const Tensor& h0) {
  const Place place(x, reset, h0);
  return prepare::pscan(x, reset, h0, [&](const auto& job) { check(cuda::pscan(job, place.stream)); });
}

std::tuple<Tensor, Tensor> pscan_backward(const Tensor& grad, const Tensor& out, const Tensor& reset) {
  const Place place(out, grad, reset);
  return prepare::pscan_backward(grad, out, reset,
                                 [&](const auto& job) { check(cuda::pscan_backward(job, place.stream)); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("pscan", TORCH_BOX(&Widened<&pscan>::call));
  m.impl("pscan_backward", TORCH_BOX(&Widened<&pscan_backward>::call));
}

}  // namespace memsuite
