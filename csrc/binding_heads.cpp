// The maps into and out of a recurrence, and the policy's distribution, on CPU tensors; see binding.cpp.
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

template <class T>
CategoricalJob<T> categorical_job(const Tensor& logits, const Input& in, const Input& chosen) {
  CategoricalJob<T> job{rows_of(logits), logits.size(logits.dim() - 1)};
  job.logits = in, job.actions = static_cast<const int64_t*>(chosen.tensor.const_data_ptr());
  return job;
}

std::tuple<Tensor, Tensor, Tensor> categorical(const Tensor& logits, const Tensor& actions) {
  STD_TORCH_CHECK(logits.dim() > 0, "memsuite::categorical: logits must be [.., A]");
  const int64_t width = logits.size(logits.dim() - 1), rows = rows_of(logits);
  const Input in(logits, logits.scalar_type(), shape_of(logits, width));
  const Input chosen(actions, ScalarType::Long, leading(logits));
  const int64_t* action = static_cast<const int64_t*>(chosen.tensor.const_data_ptr());
  for (int64_t n = 0; n < rows; ++n)
    STD_TORCH_CHECK(action[n] >= 0 && action[n] < width, "memsuite::categorical: an action is out of range");
  Tensor log_prob = make(logits, leading(logits)), entropy = make(logits, leading(logits));
  Tensor log_sum = make(logits, leading(logits));
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    CategoricalJob<T> job = categorical_job<T>(logits, in, chosen);
    job.log_prob = data<T>(log_prob), job.entropy = data<T>(entropy), job.log_sum = data<T>(log_sum);
    share(rows, 8 * width, 64, [&](int64_t first, int64_t last) { table<T>().categorical(job, first, last); });
  });
  return {log_prob, entropy, log_sum};
}

Tensor categorical_backward(const Tensor& d_log_prob, const Tensor& d_entropy, const Tensor& logits,
                            const Tensor& actions, const Tensor& entropy, const Tensor& log_sum) {
  const ScalarType type = logits.scalar_type();
  const int64_t rows = rows_of(logits);
  const Input in(logits, type, shape_of(logits, logits.size(logits.dim() - 1)));
  const Input chosen(actions, ScalarType::Long, leading(logits));
  const Input of_prob(d_log_prob, type, leading(logits)), of_entropy(d_entropy, type, leading(logits));
  const Input mean(entropy, type, leading(logits)), normaliser(log_sum, type, leading(logits));
  Tensor d_logits = make(logits, shape_of(logits, logits.size(logits.dim() - 1)));
  by_type(logits, [&](auto number) {
    using T = decltype(number);
    CategoricalJob<T> job = categorical_job<T>(logits, in, chosen);
    job.d_log_prob = of_prob, job.d_entropy = of_entropy, job.d_logits = data<T>(d_logits);
    job.entropy = const_cast<T*>(static_cast<const T*>(mean));
    job.log_sum = const_cast<T*>(static_cast<const T*>(normaliser));
    share(rows, 8 * job.width, 64, [&](int64_t first, int64_t last) { table<T>().categorical_backward(job, first, last); });
  });
  return d_logits;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("narrow_linear", TORCH_BOX(&Widened<&narrow_linear>::call));
  m.impl("narrow_linear_backward", TORCH_BOX(&Widened<&narrow_linear_backward>::call));
  m.impl("normed_linear", TORCH_BOX(&Widened<&normed_linear>::call));
  m.impl("normed_linear_backward", TORCH_BOX(&Widened<&normed_linear_backward>::call));
  m.impl("categorical", TORCH_BOX(&Widened<&categorical>::call));
  m.impl("categorical_backward", TORCH_BOX(&Widened<&categorical_backward>::call));
}

}  // namespace memsuite
