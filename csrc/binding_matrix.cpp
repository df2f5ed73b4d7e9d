// The matrix-state recurrence on CPU tensors; see binding.cpp.
#include "levels.h"
#include "tensors.h"

namespace memsuite {
namespace {

constexpr int64_t kChunk = 32;  // steps between saved states; CHUNK in memsuite/ops, where opcheck compares the shapes

// The sizes of a call, and what its arguments and results must look like.
struct MatrixShape {
  int64_t T, B, H, K, V, query_heads, key_heads;

  MatrixShape(const Tensor& q, const Tensor& k, const Tensor& v) {
    STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4,
                    "memsuite::matrix_scan: q and k must be [T, B, H, K], v [T, B, H, V]");
    STD_TORCH_CHECK(!is_complex(v.scalar_type()), "memsuite::matrix_scan: the numbers must be real");
    T = v.size(0), B = v.size(1), H = v.size(2), V = v.size(3), K = q.size(3);
    query_heads = q.size(2), key_heads = k.size(2);
    STD_TORCH_CHECK((query_heads == H || query_heads == 1) && (key_heads == H || key_heads == 1),
                    "memsuite::matrix_scan: q and k must have the heads of v, or one");
  }
  std::vector<int64_t> q() const { return {T, B, query_heads, K}; }
  std::vector<int64_t> k() const { return {T, B, key_heads, K}; }
  std::vector<int64_t> v() const { return {T, B, H, V}; }
  std::vector<int64_t> each() const { return {T, B, H}; }
  std::vector<int64_t> state() const { return {B, H, K, V}; }
  std::vector<int64_t> states() const { return {(T + kChunk - 1) / kChunk, B, H, K, V}; }
  int64_t work() const { return T * K * V; }
};

std::tuple<Tensor, Tensor, Tensor> matrix_scan(const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Tensor& log_decay, const Tensor& reset, const Tensor& s0,
                                               const std::optional<Tensor>& beta) {
  const MatrixShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const bool delta = beta.has_value();
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v());
  const Input decay(log_decay, type, s.each()), strength(beta.value_or(log_decay), type, s.each());
  const Input r(reset, ScalarType::Bool, {s.T, s.B}), begin(s0, type, s.state());
  Tensor y = make(v, s.v()), states = make(v, s.states()), last = make(v, s.state());
  by_type(v, [&](auto number) {
    using T = decltype(number);
    MatrixJob<T> job{s.T, s.B, s.H, s.query_heads, s.key_heads, s.K, s.V, kChunk};
    job.q = queries, job.k = keys, job.v = values, job.log_decay = decay, job.s0 = begin, job.reset = r;
    job.beta = delta ? static_cast<const T*>(strength) : nullptr;
    job.y = data<T>(y), job.states = data<T>(states), job.last = data<T>(last);
    share(s.B * s.H, 4 * s.work(), 1,
          [&](int64_t first, int64_t end) { table<T>().matrix[delta](job, first, end); });
  });
  return {y, states, last};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> matrix_scan_backward(
    const Tensor& grad_y, const Tensor& grad_last, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& log_decay, const Tensor& reset, const Tensor& states, const std::optional<Tensor>& beta) {
  const MatrixShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const bool delta = beta.has_value();
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v()), g(grad_y, type, s.v());
  const Input decay(log_decay, type, s.each()), strength(beta.value_or(log_decay), type, s.each());
  const Input r(reset, ScalarType::Bool, {s.T, s.B}), g_last(grad_last, type, s.state());
  const Input kept(states, type, s.states());
  Tensor d_q = make(q, s.q()), d_k = make(k, s.k()), d_v = make(v, s.v()), d_decay = make(v, s.each());
  Tensor d_s0 = make(v, s.state()), d_beta = make(v, delta ? s.each() : std::vector<int64_t>{0});
  by_type(v, [&](auto number) {
    using T = decltype(number);
    MatrixJob<T> job{s.T, s.B, s.H, s.query_heads, s.key_heads, s.K, s.V, kChunk};
    job.q = queries, job.k = keys, job.v = values, job.log_decay = decay, job.reset = r;
    job.beta = delta ? static_cast<const T*>(strength) : nullptr;
    job.grad = g, job.grad_last = g_last, job.states = const_cast<T*>(static_cast<const T*>(kept));
    job.d_q = data<T>(d_q), job.d_k = data<T>(d_k), job.d_v = data<T>(d_v), job.d_log_decay = data<T>(d_decay);
    job.d_s0 = data<T>(d_s0), job.d_beta = data<T>(d_beta);
    // Heads that share queries or keys share their gradient: one thread adds it up, in order.
    const int64_t together = s.query_heads < s.H || s.key_heads < s.H ? s.H : 1;
    share(s.B * s.H / std::max<int64_t>(together, 1), 12 * s.work() * together, 1,
          [&](int64_t first, int64_t end) { table<T>().matrix_backward[delta](job, together, first, end); });
  });
  return {d_q, d_k, d_v, d_decay, d_s0, d_beta};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("matrix_scan", TORCH_BOX(&Widened<&matrix_scan>::call));
  m.impl("matrix_scan_backward", TORCH_BOX(&Widened<&matrix_scan_backward>::call));
}

}  // namespace memsuite
