// The matrix-state recurrence on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "matrix_scan/binding.h"
#include "matrix_scan/job.h"

namespace memsuite {
namespace {

// Steps between the saved states; CHUNK in memsuite/ops/scans/matrix_scan.py, and opcheck compares the shapes.
constexpr int64_t kChunk = 32;

// The sizes of a call, and the required shapes of its arguments and results.
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
  std::vector<int64_t> channels() const { return {T, B, H, K}; }
  std::vector<int64_t> state() const { return {B, H, K, V}; }
  std::vector<int64_t> states() const { return {(T + kChunk - 1) / kChunk, B, H, K, V}; }
  int64_t work() const { return T * K * V; }
};

MatrixRule rule_of(const MatrixShape& s, const Tensor& log_decay, const std::optional<Tensor>& beta,
                   const std::optional<Tensor>& erase, const std::optional<Tensor>& address, ScalarType type) {
  const MatrixRule rule(s.each(), s.channels(), log_decay, beta, erase, address, type);
  STD_TORCH_CHECK(rule.rule != Rule::kEdit || rule.channels,
                  "memsuite::matrix_scan: an edit needs a decay of each channel");
  return rule;
}

template <class T>
MatrixScanJob<T> job_of(const MatrixShape& s, const MatrixRule& rule) {
  MatrixScanJob<T> job{s.T, s.B, s.H, s.query_heads, s.key_heads, s.K, s.V, kChunk, rule.channels, rule.rule};
  rule.set(job);
  return job;
}

std::tuple<Tensor, Tensor, Tensor> matrix_scan(const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Tensor& log_decay, const Tensor& reset, const Tensor& s0,
                                               const std::optional<Tensor>& beta, const std::optional<Tensor>& erase,
                                               const std::optional<Tensor>& address) {
  const MatrixShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const MatrixRule rule = rule_of(s, log_decay, beta, erase, address, type);
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v());
  const Input r(reset, ScalarType::Bool, {s.T, s.B}), begin(s0, type, s.state());
  const Output y(v, s.v()), states(v, s.states()), last(v, s.state());
  by_type(v, [&](auto number) {
    using T = decltype(number);
    auto job = job_of<T>(s, rule);
    job.q = queries, job.k = keys, job.v = values, job.s0 = begin, job.reset = r;
    job.y = y, job.states = states, job.last = last;
    const auto loop = kernels<MatrixScanKernels<T>>().forward[job.channels][static_cast<int>(job.rule)];
    share(s.B * s.H, 4 * s.work(), 1, [&](int64_t first, int64_t end) { loop(job, first, end); });
  });
  return {y.tensor, states.tensor, last.tensor};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> matrix_scan_backward(
    const Tensor& grad_y, const Tensor& grad_last, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& log_decay, const Tensor& reset, const Tensor& states, const std::optional<Tensor>& beta,
    const std::optional<Tensor>& erase, const std::optional<Tensor>& address) {
  const MatrixShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const MatrixRule rule = rule_of(s, log_decay, beta, erase, address, type);
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v()), g(grad_y, type, s.v());
  const Input r(reset, ScalarType::Bool, {s.T, s.B}), g_last(grad_last, type, s.state());
  const Saved kept(states, type, s.states());
  const Output d_q(q, s.q()), d_k(k, s.k()), d_v(v, s.v()), d_decay(v, rule.decays), d_s0(v, s.state());
  const Output d_beta(v, rule.strengths), d_erase(v, rule.edits), d_address(v, rule.edits);
  by_type(v, [&](auto number) {
    using T = decltype(number);
    auto job = job_of<T>(s, rule);
    job.q = queries, job.k = keys, job.v = values, job.reset = r;
    job.grad = g, job.grad_last = g_last, job.states = kept;
    job.d_q = d_q, job.d_k = d_k, job.d_v = d_v, job.d_log_decay = d_decay, job.d_s0 = d_s0;
    job.d_beta = d_beta, job.d_erase = d_erase, job.d_address = d_address;
    // Heads that share queries or keys share their gradient: one thread adds it up, in order.
    const int64_t together = s.query_heads < s.H || s.key_heads < s.H ? s.H : 1;
    const auto loop = kernels<MatrixScanKernels<T>>().backward[job.channels][static_cast<int>(job.rule)];
    share(s.B * s.H / std::max<int64_t>(together, 1), 12 * s.work() * together, 1,
          [&](int64_t first, int64_t end) { loop(job, together, first, end); });
  });
  return {d_q.tensor,  d_k.tensor,    d_v.tensor,     d_decay.tensor,
          d_s0.tensor, d_beta.tensor, d_erase.tensor, d_address.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("matrix_scan", TORCH_BOX(&Widened<&matrix_scan>::call));
  m.impl("matrix_scan_backward", TORCH_BOX(&Widened<&matrix_scan_backward>::call));
}

}  // namespace memsuite
