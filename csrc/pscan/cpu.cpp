// The pseudo-mamba scan on CPU tensors.
#include "common/kernels.h"
#include "common/threads.h"
#include "pscan/prepare.h"

namespace memsuite {
namespace {

template <class T>
void forward(const PscanJob<T>& job) {
  share(job.batch, job.steps * job.size, 1,
        [&](int64_t first, int64_t last) { kernels<PscanKernels<T>>().forward(job, first, last); });
}

template <class T>
void backward(const PscanJob<T>& job) {
  share(job.batch, job.steps * job.size, 1,
        [&](int64_t first, int64_t last) { kernels<PscanKernels<T>>().backward(job, first, last); });
}

Tensor pscan(const Tensor& x, const Tensor& reset, const Tensor& h0) {
  return prepare::pscan(x, reset, h0, [](const auto& job) { forward(job); });
}

std::tuple<Tensor, Tensor> pscan_backward(const Tensor& grad, const Tensor& out, const Tensor& reset) {
  return prepare::pscan_backward(grad, out, reset, [](const auto& job) { backward(job); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("pscan", TORCH_BOX(&Widened<&pscan>::call));
  m.impl("pscan_backward", TORCH_BOX(&Widened<&pscan_backward>::call));
}

}  // namespace memsuite
