// The selective scan on CUDA tensors.
#include "selective_scan/cuda.h"

#include "common/cuda_binding.h"
#include "selective_scan/prepare.h"

namespace memsuite {
namespace {

template <class T>
void backward(const SelectiveScanJob<T>& job, const Tensor& like, void* stream) {
  const int64_t steps = job.steps, B = job.batch, N = job.states_each;
  const int64_t blocks = (job.size + cuda::kSelectiveChannels - 1) / cuda::kSelectiveChannels;
  const Output d_a(like, {B, job.size, N}), scratch(like, {blocks > 1 ? 2 * blocks : 0, steps, B, N});
  cuda::SelectiveScanParts<T> parts{d_a, job.d_b, job.d_c};
  if (blocks > 1) parts.d_b = scratch, parts.d_c = parts.d_b + blocks * steps * B * N;
  check(cuda::selective_scan_backward(job, parts, stream));
}

std::tuple<Tensor, Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
                                                  const Tensor& c, const Tensor& reset, const Tensor& h0) {
  const Place place(u, dt, a, b, c, reset, h0);
  return prepare::selective_scan(u, dt, a, b, c, reset, h0,
                                 [&](const auto& job) { check(cuda::selective_scan(job, place.stream)); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& grad, const Tensor& grad_last, const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
    const Tensor& c, const Tensor& reset, const Tensor& saved) {
  const Place place(u, grad, grad_last, dt, a, b, c, reset, saved);
  return prepare::selective_scan_backward(grad, grad_last, u, dt, a, b, c, reset, saved,
                                          [&](const auto& job) { backward(job, u, place.stream); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("selective_scan", TORCH_BOX(&Widened<&selective_scan>::call));
  m.impl("selective_scan_backward", TORCH_BOX(&Widened<&selective_scan_backward>::call));
}

}  // namespace memsuite
