// The maps into and out of a recurrence, an action's log-probability and PPO's loss, on CPU tensors; see binding.cpp.
#include "levels.h"
#include "tensors.h"

namespace memsuite {
namespace {

Tensor narrow_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  STD_TORCH_CHECK(x.dim() > 0 && weight.dim() == 2, "memsuite::narrow_linear: x must be [.., K], weight [D, K]");
  const int64_t narrow = weight.size(1), wide = weight.size(0), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, narrow)), w(weight, type, {wide, narrow}), b(bias, type, {wide});
  Tensor y = make(x, shape_of(x, wide));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    NarrowJob<T> job{rows, narrow, wide};
    job.x = in, job.bias = b, job.y = data<T>(y);
    const Aligned<T> packed(kernels.widening_packed(narrow, wide));
    kernels.pack_widening(packed.data, w, narrow, wide, 1, narrow);
    share(rows, narrow * wide, 128,
          [&](int64_t first, int64_t last) { kernels.narrow_linear(job, packed.data, first, last); });
  });
  return y;
}

std::tuple<Tensor, Tensor> narrow_linear_backward(const Tensor& grad, const Tensor& x) {
  const int64_t narrow = x.size(x.dim() - 1), wide = grad.size(grad.dim() - 1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, narrow)), g(grad, type, shape_of(x, wide));
  Tensor both = make(x, {narrow + 1, wide});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NarrowJob<T> job{rows, narrow, wide};
    job.x = in, job.grad = g;
    in_parts(data<T>(both), (narrow + 1) * wide, rows, narrow * wide, [&](T* sums, int64_t first, int64_t last) {
      table<T>().narrow_linear_backward(job, sums, sums + narrow * wide, first, last);
    });
  });
  Tensor d_w = torch::stable::transpose(torch::stable::narrow(both, 0, 0, narrow), 0, 1);
  return {torch::stable::contiguous(d_w), torch::stable::clone(torch::stable::select(both, 0, narrow))};
}

std::tuple<Tensor, Tensor, Tensor> normed_linear(const Tensor& x, const Tensor& weight, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && weight.dim() == 2, "memsuite::normed_linear: x must be [.., D], weight [A, D]");
  const int64_t narrow = weight.size(0), wide = weight.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, wide)), w(weight, type, {narrow, wide});
  Tensor y = make(x, shape_of(x, narrow)), plain = make(x, shape_of(x, narrow)), scale = make(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    NarrowJob<T> job{rows, narrow, wide, static_cast<T>(eps)};
    job.x = in, job.y = data<T>(y), job.plain = data<T>(plain), job.scale = data<T>(scale);
    const Aligned<T> packed(kernels.narrowing_packed(narrow, wide));
    kernels.pack_narrowing(packed.data, w, wide, narrow, 1, wide);
    share(rows, narrow * wide, 128,
          [&](int64_t first, int64_t last) { kernels.normed_linear(job, packed.data, first, last); });
  });
  return {y, plain, scale};
}

std::tuple<Tensor, Tensor> normed_linear_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                  const Tensor& plain, const Tensor& scale) {
  const int64_t narrow = weight.size(0), wide = weight.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, wide)), w(weight, type, {narrow, wide}), g(grad, type, shape_of(x, narrow));
  const Input saved(plain, type, shape_of(x, narrow)), factor(scale, type, shape_of(x, 1));
  Tensor d_x = make(x, shape_of(x, wide)), d_w = make(weight, {narrow, wide});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    NarrowJob<T> job{rows, narrow, wide};
    job.x = in, job.grad = g, job.y = data<T>(d_x);
    job.plain = const_cast<T*>(static_cast<const T*>(saved));
    job.scale = const_cast<T*>(static_cast<const T*>(factor));
    const Aligned<T> packed(kernels.widening_packed(narrow, wide));
    kernels.pack_widening(packed.data, w, narrow, wide, wide, 1);
    in_parts(data<T>(d_w), narrow * wide, rows, 2 * narrow * wide, [&](T* sums, int64_t first, int64_t last) {
      kernels.normed_linear_backward(job, packed.data, sums, first, last);
    });
  });
  return {d_x, d_w};
}

// The actions [..] of logits [.., A], each in [0, A).
Input actions_of(const Tensor& actions, const Tensor& logits) {
  STD_TORCH_CHECK(logits.dim() > 0, "memsuite: logits must be [.., A]");
  Input chosen(actions, ScalarType::Long, leading(logits));
  const int64_t* action = chosen;
  const int64_t width = logits.size(logits.dim() - 1), rows = rows_of(logits);
  for (int64_t n = 0; n < rows; ++n)
    STD_TORCH_CHECK(action[n] >= 0 && action[n] < width, "memsuite: an action is out of range");
  return chosen;
}

Tensor log_prob(const Tensor& logits, const Tensor& actions) {
  const Input chosen = actions_of(actions, logits);
  const int64_t width = logits.size(logits.dim() - 1), rows = rows_of(logits);
  const Input in(logits, logits.scalar_type(), shape_of(logits, width));
  Tensor out = make(logits, leading(logits));
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    const LogProbJob<T> job{rows, width, in, chosen, data<T>(out)};
    share(rows, 8 * width, 64, [&](int64_t first, int64_t last) { table<T>().log_prob(job, first, last); });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> surrogate(
    const Tensor& logits, const Tensor& values, const Tensor& actions, const Tensor& old_log_probs,
    const Tensor& old_values, const Tensor& advantages, const Tensor& returns, double clip,
    std::optional<double> value_clip, double value_coefficient, double entropy_coefficient, bool by_advantage) {
  const Input chosen = actions_of(actions, logits);
  const ScalarType type = logits.scalar_type();
  const int64_t width = logits.size(logits.dim() - 1), rows = rows_of(logits);
  const std::vector<int64_t> shape = leading(logits);
  const Input in(logits, type, shape_of(logits, width)), v(values, type, shape), old_p(old_log_probs, type, shape);
  const Input old_v(old_values, type, shape), weights(advantages, type, shape), targets(returns, type, shape);
  Tensor total = make(logits, {}), terms = make(logits, {kTerms});
  Tensor d_logits = make(logits, shape_of(logits, width)), d_values = make(logits, shape);
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    LossJob<T> job{rows, width, static_cast<T>(clip), static_cast<T>(value_clip.value_or(0))};
    job.value_coefficient = static_cast<T>(value_coefficient);
    job.entropy_coefficient = static_cast<T>(entropy_coefficient);
    job.clips_value = value_clip.has_value(), job.by_advantage = by_advantage;
    job.logits = in, job.values = v, job.actions = chosen, job.old_log_probs = old_p, job.old_values = old_v;
    job.advantages = weights, job.returns = targets, job.d_logits = data<T>(d_logits), job.d_values = data<T>(d_values);
    double sums[kLossSums] = {};
    in_parts(sums, kLossSums, rows, 16 * width,
             [&](double* part, int64_t first, int64_t last) { table<T>().surrogate(job, part, first, last); });
    for (double& sum : sums) sum /= static_cast<double>(rows);
    const double policy = -sums[kPolicy], value = 0.5 * sums[kValue];
    const double all[kTerms] = {policy + value_coefficient * value - entropy_coefficient * sums[kBonus],
                           policy, value, sums[kEntropy], sums[kKl], sums[kClipped]};
    for (int i = 0; i < kTerms; ++i) data<T>(terms)[i] = static_cast<T>(all[i]);
    *data<T>(total) = static_cast<T>(all[0]);
  });
  return {total, terms, d_logits, d_values};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("narrow_linear", TORCH_BOX(&Widened<&narrow_linear>::call));
  m.impl("narrow_linear_backward", TORCH_BOX(&Widened<&narrow_linear_backward>::call));
  m.impl("normed_linear", TORCH_BOX(&Widened<&normed_linear>::call));
  m.impl("normed_linear_backward", TORCH_BOX(&Widened<&normed_linear_backward>::call));
  m.impl("log_prob", TORCH_BOX(&Widened<&log_prob>::call));
  m.impl("surrogate", TORCH_BOX(&surrogate));
}

}  // namespace memsuite
