// Attention to a window on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "window_attention/job.h"

namespace memsuite {
namespace {

// The checked inputs of both directions.
struct WindowInputs {
  const int64_t steps, before, batch, heads, size;
  const ScalarType type;
  const Input q, k, v, age;
  const int64_t ages;
  std::optional<Input> bias, relative_q, relative_k;

  WindowInputs(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& age, const std::optional<Tensor>& given,
               const std::optional<Tensor>& by_age_q, const std::optional<Tensor>& by_age_k)
      : steps(q.size(0)),
        before(k.size(0) - steps),
        batch(q.size(1)),
        heads(q.size(2)),
        size(q.size(3)),
        type(q.scalar_type()),
        q(q, type, queries()),
        k(k, type, keys()),
        v(v, type, keys()),
        age(age, ScalarType::Long, {steps, batch}),
        ages(by_age_k ? by_age_k->size(0) : 0) {
    STD_TORCH_CHECK(by_age_q.has_value() == by_age_k.has_value(),
                    "memsuite::window_attention: relative_q and relative_k come together");
    if (by_age_q) relative_q.emplace(*by_age_q, type, queries()), relative_k.emplace(*by_age_k, type, by_age());
    if (given) bias.emplace(*given, ScalarType::Double, biases());
    STD_TORCH_CHECK(before >= 0, "memsuite::window_attention: there are fewer keys than queries");
    const int64_t* seen = this->age;
    for (int64_t t = 0; t < steps; ++t)
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t oldest = seen[t * batch + b];
        STD_TORCH_CHECK(0 <= oldest && oldest <= before + t,
                        "memsuite::window_attention: an age is beyond the first key");
        STD_TORCH_CHECK(!relative_k || oldest < ages, "memsuite::window_attention: an age is beyond relative_k");
      }
  }

  static void check(const Tensor& q, const Tensor& k) {
    STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4, "memsuite::window_attention: q must be [T, B, H, F], k [S, B, H, F]");
  }
  std::vector<int64_t> by_age() const { return {ages, heads, size}; }
  std::vector<int64_t> biases() const { return {before + steps, batch, heads}; }
  std::vector<int64_t> queries() const { return {steps, batch, heads, size}; }
  std::vector<int64_t> keys() const { return {before + steps, batch, heads, size}; }

  template <class T>
  WindowAttentionJob<T> job() const {
    WindowAttentionJob<T> job{steps, before, batch, heads, size};
    job.q = q, job.k = k, job.v = v, job.age = age;
    if (bias) job.bias = *bias;
    if (relative_q) job.relative_q = *relative_q, job.relative_k = *relative_k, job.ages = ages;
    return job;
  }
};

std::tuple<Tensor, Tensor> window_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& age,
                                            const std::optional<Tensor>& bias, const std::optional<Tensor>& relative_q,
                                            const std::optional<Tensor>& relative_k) {
  WindowInputs::check(q, k);
  const WindowInputs in(q, k, v, age, bias, relative_q, relative_k);
  const Output y(q, in.queries()), total(q, {in.steps, in.batch, in.heads});
  by_type(q, [&](auto number) {
    using T = decltype(number);
    WindowAttentionJob<T> job = in.job<T>();
    job.y = y, job.total = total;
    share(in.batch * in.heads, 2 * in.steps * in.steps * in.size, 1,
          [&](int64_t first, int64_t last) { kernels<WindowAttentionKernels<T>>().forward(job, first, last); });
  });
  return {y.tensor, total.tensor};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> window_attention_backward(
    const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& age,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& relative_q, const std::optional<Tensor>& relative_k,
    const Tensor& y, const Tensor& total) {
  WindowInputs::check(q, k);
  const WindowInputs in(q, k, v, age, bias, relative_q, relative_k);
  const Input g(grad, in.type, in.queries());
  const Saved made(y, in.type, in.queries()), sums(total, in.type, {in.steps, in.batch, in.heads});
  const Output d_q(q, in.queries()), d_k(k, in.keys()), d_v(v, in.keys());
  const std::vector<int64_t> none{0}, by_age{in.batch, in.ages, in.heads, in.size};
  const Output d_bias(bias ? *bias : v, bias ? in.biases() : none);
  const Output d_relative_q(q, relative_q ? in.queries() : none), d_relative_k(q, relative_k ? by_age : none);
  by_type(q, [&](auto number) {
    using T = decltype(number);
    WindowAttentionJob<T> job = in.job<T>();
    job.grad = g, job.y = made, job.total = sums, job.d_q = d_q, job.d_k = d_k, job.d_v = d_v;
    if (bias) job.d_bias = d_bias;
    if (relative_q) job.d_relative_q = d_relative_q, job.d_relative_k = d_relative_k;
    share(in.batch * in.heads, 5 * in.steps * in.steps * in.size, 1,
          [&](int64_t first, int64_t last) { kernels<WindowAttentionKernels<T>>().backward(job, first, last); });
  });
  return {d_q.tensor, d_k.tensor, d_v.tensor, d_bias.tensor, d_relative_q.tensor, d_relative_k.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("window_attention", TORCH_BOX(&Widened<&window_attention>::call));
  m.impl("window_attention_backward", TORCH_BOX((&Widened<&window_attention_backward, 1, 2, 3, 5, 6, 0>::call)));
}

}  // namespace memsuite
