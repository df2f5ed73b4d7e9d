// The edited matrix state on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "delta_scan/job.h"

namespace memsuite {
namespace {

// Steps between the saved states; CHUNK in memsuite/ops/scans/delta_scan.py, and opcheck compares the shapes.
constexpr int64_t kDeltaChunk = 32;

// The sizes of a call, and the required shapes of its arguments and results.
struct DeltaShape {
  int64_t T, B, H, K, V;

  DeltaShape(const Tensor& q, const Tensor& v) {
    STD_TORCH_CHECK(q.dim() == 4 && v.dim() == 4, "memsuite::delta_scan: q must be [T, B, H, K], v [T, B, H, V]");
    STD_TORCH_CHECK(!is_complex(v.scalar_type()), "memsuite::delta_scan: the numbers must be real");
    T = q.size(0), B = q.size(1), H = q.size(2), K = q.size(3), V = v.size(3);
  }
  std::vector<int64_t> keys() const { return {T, B, H, K}; }
  std::vector<int64_t> values() const { return {T, B, H, V}; }
  std::vector<int64_t> state() const { return {B, H, K, V}; }
  std::vector<int64_t> states() const { return {(T + kDeltaChunk - 1) / kDeltaChunk, B, H, K, V}; }
  int64_t work() const { return T * K * V; }
};

std::tuple<Tensor, Tensor, Tensor> delta_scan(const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Tensor& log_decay, const Tensor& reset, const Tensor& s0,
                                              const std::optional<Tensor>& erase,
                                              const std::optional<Tensor>& address) {
  const DeltaShape s(q, v);
  const ScalarType type = v.scalar_type();
  const bool erases = erase.has_value() && address.has_value();
  const Input queries(q, type, s.keys()), keys(k, type, s.keys()), values(v, type, s.values());
  const Input decay(log_decay, type, s.keys()), r(reset, ScalarType::Bool, {s.T, s.B}), begin(s0, type, s.state());
  const Input from(erase.value_or(k), type, s.keys()), at(address.value_or(k), type, s.keys());
  const Output y(v, s.values()), states(v, s.states()), last(v, s.state());
  by_type(v, [&](auto number) {
    using T = decltype(number);
    DeltaScanJob<T> job{s.T, s.B, s.H, s.K, s.V, kDeltaChunk};
    job.q = queries, job.k = keys, job.v = values, job.log_decay = decay, job.s0 = begin, job.reset = r;
    if (erases) job.erase = from, job.address = at;
    job.y = y, job.states = states, job.last = last;
    const auto loop = kernels<DeltaScanKernels<T>>().forward[erases];
    share(s.B * s.H, 4 * s.work(), 1, [&](int64_t first, int64_t end) { loop(job, first, end); });
  });
  return {y.tensor, states.tensor, last.tensor};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> delta_scan_backward(
    const Tensor& grad_y, const Tensor& grad_last, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& log_decay, const Tensor& reset, const Tensor& states, const std::optional<Tensor>& erase,
    const std::optional<Tensor>& address) {
  const DeltaShape s(q, v);
  const ScalarType type = v.scalar_type();
  const bool erases = erase.has_value() && address.has_value();
  const Input queries(q, type, s.keys()), keys(k, type, s.keys()), values(v, type, s.values());
  const Input decay(log_decay, type, s.keys()), r(reset, ScalarType::Bool, {s.T, s.B});
  const Input from(erase.value_or(k), type, s.keys()), at(address.value_or(k), type, s.keys());
  const Input g(grad_y, type, s.values()), g_last(grad_last, type, s.state());
  const Saved kept(states, type, s.states());
  const std::vector<int64_t> none{0}, some = erases ? s.keys() : none;
  const Output d_q(v, s.keys()), d_k(v, s.keys()), d_v(v, s.values()), d_decay(v, s.keys()), d_s0(v, s.state());
  const Output d_erase(v, some), d_address(v, some);
  by_type(v, [&](auto number) {
    using T = decltype(number);
    DeltaScanJob<T> job{s.T, s.B, s.H, s.K, s.V, kDeltaChunk};
    job.q = queries, job.k = keys, job.v = values, job.log_decay = decay, job.reset = r;
    if (erases) job.erase = from, job.address = at;
    job.grad = g, job.grad_last = g_last, job.states = kept;
    job.d_q = d_q, job.d_k = d_k, job.d_v = d_v, job.d_log_decay = d_decay, job.d_s0 = d_s0;
    job.d_erase = d_erase, job.d_address = d_address;
    const auto loop = kernels<DeltaScanKernels<T>>().backward[erases];
    share(s.B * s.H, 12 * s.work(), 1, [&](int64_t first, int64_t end) { loop(job, first, end); });
  });
  return {d_q.tensor, d_k.tensor, d_v.tensor, d_decay.tensor, d_s0.tensor, d_erase.tensor, d_address.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("delta_scan", TORCH_BOX(&Widened<&delta_scan>::call));
  m.impl("delta_scan_backward", TORCH_BOX(&Widened<&delta_scan_backward>::call));
}

}  // namespace memsuite
