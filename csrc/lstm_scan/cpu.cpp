// The LSTM recurrence on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "lstm_scan/job.h"

namespace memsuite {
namespace {

template <class T>
void forward(const LstmScanJob<T>& job) {
  const auto& lstm = kernels<LstmScanKernels<T>>();
  share(job.batch, 4 * job.steps * job.size * job.size, 4, [&](int64_t first, int64_t last) {
    const Aligned<T> packed(lstm.packed_size(job.size));  // each thread packs for itself: it reads all at every step
    lstm.pack(packed.data, job.weights, job.biases, job.size);
    lstm.forward(job, packed.data, first, last);
  });
}

template <class T>
void backward(const LstmScanJob<T>& job) {
  const auto& lstm = kernels<LstmScanKernels<T>>();
  const int64_t work = 4 * job.steps * job.size * job.size;
  const int64_t tiles = (4 * job.size + lstm.outer_rows - 1) / lstm.outer_rows;
  share(job.batch, work, 4, [&](int64_t first, int64_t last) {
    const Packed<T> packed(job.weights, 4 * job.size, job.size, false);
    lstm.backward(job, packed.data, first, last);
  });
  share(tiles, work * job.batch / tiles, 1, [&](int64_t first, int64_t last) { lstm.weights(job, first, last); });
}

std::tuple<Tensor, Tensor, Tensor> lstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0, const Tensor& c0,
                                             const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2, "memsuite::lstm_scan: gi must be [T, B, 4 D], h0 [B, D]");
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(4)), r(reset, ScalarType::Bool, s.rows());
  const Input h(h0, type, s.state()), c(c0, type, s.state());
  const Input w(w_hh, type, {4 * s.D, s.D}), b(b_hh, type, {4 * s.D});
  const Output out(gi, s.all()), cells(gi, s.all()), gates(gi, s.gates(4));
  by_type(gi, [&](auto number) {
    LstmScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.c0 = c, job.reset = r, job.weights = w, job.biases = b;
    job.out = out, job.cells = cells, job.gates = gates;
    forward(job);
  });
  return {out.tensor, cells.tensor, gates.tensor};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lstm_scan_backward(
    const Tensor& grad, const std::optional<Tensor>& grad_cells, const Tensor& states, const Tensor& cells,
    const Tensor& gates, const Tensor& reset, const Tensor& h0, const Tensor& c0, const Tensor& w_hh) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), g_c(grad_cells.value_or(grad), type, s.all()), y(states, type, s.all());
  const Saved kept(cells, type, s.all()), saved(gates, type, s.gates(4));
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state()), c(c0, type, s.state());
  const Input w(w_hh, type, {4 * s.D, s.D});
  const Output d_gi(states, s.gates(4)), d_h0(states, s.state()), d_c0(states, s.state());
  const Output d_w(states, {4 * s.D, s.D}), d_b(states, {4 * s.D});
  by_type(states, [&](auto number) {
    LstmScanJob<decltype(number)> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.c0 = c, job.reset = r, job.weights = w;
    if (grad_cells.has_value()) job.grad_cells = g_c;
    job.cells = kept, job.gates = saved;
    job.d_gi = d_gi, job.d_h0 = d_h0, job.d_c0 = d_c0, job.d_w = d_w, job.d_b = d_b;
    backward(job);
  });
  return {d_gi.tensor, d_h0.tensor, d_c0.tensor, d_w.tensor, d_b.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("lstm_scan", TORCH_BOX(&Widened<&lstm_scan>::call));
  m.impl("lstm_scan_backward", TORCH_BOX(&Widened<&lstm_scan_backward>::call));
}

}  // namespace memsuite
