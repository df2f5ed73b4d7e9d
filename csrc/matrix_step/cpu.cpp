// One step of the matrix-state recurrence on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "matrix_scan/binding.h"
#include "matrix_step/job.h"

namespace memsuite {
namespace {

// The sizes of a step, and the required shapes of its arguments and results.
struct StepShape {
  int64_t B, H, K, V, query_heads, key_heads;

  StepShape(const Tensor& q, const Tensor& k, const Tensor& v) {
    STD_TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.dim() == 3,
                    "memsuite::matrix_step: q and k must be [B, H, K], v [B, H, V]");
    STD_TORCH_CHECK(!is_complex(v.scalar_type()), "memsuite::matrix_step: the numbers must be real");
    B = v.size(0), H = v.size(1), V = v.size(2), K = q.size(2);
    query_heads = q.size(1), key_heads = k.size(1);
    STD_TORCH_CHECK((query_heads == H || query_heads == 1) && (key_heads == H || key_heads == 1),
                    "memsuite::matrix_step: q and k must have the heads of v, or one");
  }
  std::vector<int64_t> q() const { return {B, query_heads, K}; }
  std::vector<int64_t> k() const { return {B, key_heads, K}; }
  std::vector<int64_t> v() const { return {B, H, V}; }
  std::vector<int64_t> each() const { return {B, H}; }
  std::vector<int64_t> channels() const { return {B, H, K}; }
  std::vector<int64_t> state() const { return {B, H, K, V}; }
  int64_t work() const { return H * K * V; }
};

template <class T>
MatrixStepJob<T> job_of(const StepShape& s, const MatrixRule& rule) {
  MatrixStepJob<T> job{s.B, s.H, s.query_heads, s.key_heads, s.K, s.V, rule.channels, rule.rule};
  rule.set(job);
  return job;
}

std::tuple<Tensor, Tensor> matrix_step(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                                       const Tensor& state, const std::optional<Tensor>& beta,
                                       const std::optional<Tensor>& erase, const std::optional<Tensor>& address) {
  const StepShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const MatrixRule rule(s.each(), s.channels(), log_decay, beta, erase, address, type);
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v()), old(state, type, s.state());
  const Output y(v, s.v()), next(v, s.state());
  by_type(v, [&](auto number) {
    using T = decltype(number);
    auto job = job_of<T>(s, rule);
    job.q = queries, job.k = keys, job.v = values, job.s = old, job.y = y, job.next = next;
    const auto loop = kernels<MatrixStepKernels<T>>().forward[static_cast<int>(job.rule)];
    share(s.B, 4 * s.work(), 1, [&](int64_t first, int64_t end) { loop(job, first, end); });
  });
  return {y.tensor, next.tensor};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> matrix_step_backward(
    const Tensor& grad_y, const Tensor& grad_next, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& log_decay, const Tensor& state, const std::optional<Tensor>& beta, const std::optional<Tensor>& erase,
    const std::optional<Tensor>& address) {
  const StepShape s(q, k, v);
  const ScalarType type = v.scalar_type();
  const MatrixRule rule(s.each(), s.channels(), log_decay, beta, erase, address, type);
  const Input queries(q, type, s.q()), keys(k, type, s.k()), values(v, type, s.v()), old(state, type, s.state());
  const Input g(grad_y, type, s.v()), g_next(grad_next, type, s.state());
  const Output d_q(q, s.q()), d_k(k, s.k()), d_v(v, s.v()), d_decay(v, rule.decays), d_s(v, s.state());
  const Output d_beta(v, rule.strengths), d_erase(v, rule.edits), d_address(v, rule.edits);
  by_type(v, [&](auto number) {
    using T = decltype(number);
    auto job = job_of<T>(s, rule);
    job.q = queries, job.k = keys, job.v = values, job.s = old, job.grad = g, job.grad_next = g_next;
    job.d_q = d_q, job.d_k = d_k, job.d_v = d_v, job.d_log_decay = d_decay, job.d_s = d_s;
    job.d_beta = d_beta, job.d_erase = d_erase, job.d_address = d_address;
    const auto loop = kernels<MatrixStepKernels<T>>().backward[static_cast<int>(job.rule)];
    share(s.B, 12 * s.work(), 1, [&](int64_t first, int64_t end) { loop(job, first, end); });
  });
  return {d_q.tensor, d_k.tensor,    d_v.tensor,     d_decay.tensor,
          d_s.tensor, d_beta.tensor, d_erase.tensor, d_address.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("matrix_step", TORCH_BOX(&Widened<&matrix_step>::call));
  m.impl("matrix_step_backward", TORCH_BOX(&Widened<&matrix_step_backward>::call));
}

}  // namespace memsuite
