// The selective scan on CPU tensors.
#include "common/kernels.h"
#include "common/threads.h"
#include "selective_scan/prepare.h"

namespace memsuite {
namespace {

template <class T>
void forward(const SelectiveScanJob<T>& job) {
  share(job.batch, 8 * job.steps * job.size * job.states_each, 1,
        [&](int64_t first, int64_t last) { kernels<SelectiveScanKernels<T>>().forward(job, first, last); });
}

// Runs the backward pass. The number of parts of the gradient of a does not depend on the number of threads, so neither
// do its bits.
template <class T>
void backward(const SelectiveScanJob<T>& job) {
  const int64_t N = job.states_each, D = job.size, parts = std::max<int64_t>(1, std::min<int64_t>(job.batch, 32));
  const Aligned<T> sums(parts * N * D);
  share(parts, 16 * job.steps * D * N * job.batch / parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      kernels<SelectiveScanKernels<T>>().backward(job, sums.data + p * N * D, p * job.batch / parts,
                                                  (p + 1) * job.batch / parts);
  });
  for (int64_t p = 1; p < parts; ++p)
    for (int64_t i = 0; i < N * D; ++i) sums.data[i] += sums.data[p * N * D + i];
  for (int64_t d = 0; d < D; ++d)
    for (int64_t n = 0; n < N; ++n) job.d_a[d * N + n] = sums.data[n * D + d];
}

std::tuple<Tensor, Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
                                                  const Tensor& c, const Tensor& reset, const Tensor& h0) {
  return prepare::selective_scan(u, dt, a, b, c, reset, h0, [](const auto& job) { forward(job); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& grad, const Tensor& grad_last, const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
    const Tensor& c, const Tensor& reset, const Tensor& saved) {
  return prepare::selective_scan_backward(grad, grad_last, u, dt, a, b, c, reset, saved,
                                          [](const auto& job) { backward(job); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("selective_scan", TORCH_BOX(&Widened<&selective_scan>::call));
  m.impl("selective_scan_backward", TORCH_BOX(&Widened<&selective_scan_backward>::call));
}

}  // namespace memsuite
