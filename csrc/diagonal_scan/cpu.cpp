// The diagonal scan on CPU tensors.
#include "common/kernels.h"
#include "common/threads.h"
#include "diagonal_scan/prepare.h"

namespace memsuite {
namespace {

template <class T>
void forward(const DiagonalScanJob<T>& job) {
  const auto loop = kernels<DiagonalScanKernels<T>>().forward[job.complex];
  share(job.batch, job.steps * job.size, 1, [&](int64_t first, int64_t last) { loop(job, first, last); });
}

template <class T>
void backward(const DiagonalScanJob<T>& job) {
  const auto loop = kernels<DiagonalScanKernels<T>>().backward[job.complex];
  share(job.batch, job.steps * job.size, 1, [&](int64_t first, int64_t last) { loop(job, first, last); });
  if (!job.constant) return;
  std::fill(job.d_a_total, job.d_a_total + job.size, T(0));
  if (job.batch > 0) std::copy(job.d_a, job.d_a + job.size, job.d_a_total);
  for (int64_t b = 1; b < job.batch; ++b)  // in order of the environments, for any number of threads
    for (int64_t i = 0; i < job.size; ++i) job.d_a_total[i] += job.d_a[b * job.size + i];
}

Tensor diagonal_scan(const Tensor& a, const Tensor& x, const Tensor& reset, const Tensor& h0) {
  return prepare::diagonal_scan(a, x, reset, h0, [](const auto& job) { forward(job); });
}

std::tuple<Tensor, Tensor, Tensor> diagonal_scan_backward(const Tensor& grad, const Tensor& a, const Tensor& out,
                                                          const Tensor& reset, const Tensor& h0) {
  return prepare::diagonal_scan_backward(grad, a, out, reset, h0, [](const auto& job) { backward(job); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("diagonal_scan", TORCH_BOX(&Widened<&diagonal_scan>::call));
  m.impl("diagonal_scan_backward", TORCH_BOX(&Widened<&diagonal_scan_backward>::call));
}

}  // namespace memsuite
