// The GRU recurrence on CPU tensors.
#include "common/packed.h"
#include "gru_scan/prepare.h"

namespace memsuite {
namespace {

template <class T>
void forward(const GruScanJob<T>& job) {
  const auto& gru = kernels<GruScanKernels<T>>();
  share(job.batch, 3 * job.steps * job.size * job.size, 4, [&](int64_t first, int64_t last) {
    const Aligned<T> packed(gru.packed_size(job.size));  // each thread packs for itself: it reads all at every step
    gru.pack(packed.data, job.weights, job.biases, job.size);
    gru.forward(job, packed.data, first, last);
  });
}

template <class T>
void backward(const GruScanJob<T>& job) {
  const auto& gru = kernels<GruScanKernels<T>>();
  const int64_t work = 3 * job.steps * job.size * job.size;
  const int64_t tiles = (3 * job.size + gru.outer_rows - 1) / gru.outer_rows;
  share(job.batch, work, 4, [&](int64_t first, int64_t last) {
    const Packed<T> packed(job.weights, 3 * job.size, job.size, false);
    gru.backward(job, packed.data, first, last);
  });
  share(tiles, work * job.batch / tiles, 1, [&](int64_t first, int64_t last) { gru.weights(job, first, last); });
}

std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& w_hh,
                                            const Tensor& b_hh) {
  return prepare::gru_scan(gi, reset, h0, w_hh, b_hh, false, [](const auto& job) { forward(job); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gru_scan_backward(const Tensor& grad, const Tensor& states,
                                                             const Tensor& gates, const Tensor& candidates,
                                                             const Tensor& reset, const Tensor& h0,
                                                             const Tensor& w_hh) {
  const int64_t size = states.size(2);
  const Output d_w(states, {3 * size, size}), d_b(states, {3 * size});
  const auto run = [&](auto& job) {
    job.d_w = d_w, job.d_b = d_b;
    backward(job);
  };
  const auto flow = prepare::gru_scan_flow(grad, states, gates, candidates, reset, h0, w_hh, run);
  return {flow.d_gi, flow.d_h0, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("gru_scan", TORCH_BOX(&Widened<&gru_scan>::call));
  m.impl("gru_scan_backward", TORCH_BOX(&Widened<&gru_scan_backward>::call));
}

}  // namespace memsuite
