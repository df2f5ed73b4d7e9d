// The short causal convolution on CPU tensors; see binding.cpp.
#include "levels.h"
#include "tensors.h"

namespace memsuite {
namespace {

struct ConvShape : Shape {
  int64_t width;

  ConvShape(const Tensor& x, const Tensor& weight) : Shape(x), width(weight.size(1)) {}
  static void check(const Tensor& x, const Tensor& weight) {
    STD_TORCH_CHECK(x.dim() == 3 && weight.dim() == 2 && weight.size(1) > 0,
                    "memsuite::short_conv: x must be [T, B, D], weight [D, W]");
    STD_TORCH_CHECK(!is_complex(x.scalar_type()), "memsuite::short_conv: the numbers must be real");
  }
  std::vector<int64_t> weights() const { return {D, width}; }
  std::vector<int64_t> buffer() const { return {B, width - 1, D}; }
};

// The taps [width][D] of a weight [D, W], whose last column is that of the step itself.
template <class T>
void turn_taps(T* taps, const T* weight, const ConvShape& s) {
  for (int64_t lag = 0; lag < s.width; ++lag)
    for (int64_t d = 0; d < s.D; ++d) taps[lag * s.D + d] = weight[d * s.width + s.width - 1 - lag];
}

Tensor short_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& buffer,
                  const Tensor& reset) {
  ConvShape::check(x, weight);
  const ConvShape s(x, weight);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, s.all()), w(weight, type, s.weights()), added(bias, type, {s.D});
  const Input before(buffer, type, s.buffer()), r(reset, ScalarType::Bool, s.rows());
  Tensor y = make(x, s.all());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Aligned<T> taps(s.width * s.D);
    turn_taps<T>(taps.data, w, s);
    ConvJob<T> job{s.T, s.B, s.D, s.width};
    job.x = in, job.taps = taps.data, job.bias = added, job.buffer = before, job.reset = r, job.y = data<T>(y);
    share(s.B, s.T * s.D * s.width, 1, [&](int64_t first, int64_t last) { table<T>().conv(job, first, last); });
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> short_conv_backward(const Tensor& grad, const Tensor& x,
                                                               const Tensor& weight, const Tensor& buffer,
                                                               const Tensor& reset) {
  ConvShape::check(x, weight);
  const ConvShape s(x, weight);
  const int64_t parts = std::min<int64_t>(s.B, 16), size = (s.width + 1) * s.D;  // sums, the same whatever the threads
  const ScalarType type = x.scalar_type();
  const Input g(grad, type, s.all()), in(x, type, s.all()), w(weight, type, s.weights());
  const Input before(buffer, type, s.buffer()), r(reset, ScalarType::Bool, s.rows());
  Tensor d_x = make(x, s.all()), d_w = make(x, s.weights()), d_b = make(x, {s.D}), d_buffer = make(x, s.buffer());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Aligned<T> taps(s.width * s.D), sums(std::max<int64_t>(parts, 1) * size);
    turn_taps<T>(taps.data, w, s);
    ConvJob<T> job{s.T, s.B, s.D, s.width};
    job.grad = g, job.x = in, job.taps = taps.data, job.buffer = before, job.reset = r;
    job.d_x = data<T>(d_x), job.d_buffer = data<T>(d_buffer);
    std::fill(sums.data, sums.data + size, T(0));
    share(parts, 3 * s.T * s.D * s.width * s.B / std::max<int64_t>(parts, 1), 1, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p)
        table<T>().conv_backward(job, sums.data + p * size, p * s.B / parts, (p + 1) * s.B / parts);
    });
    for (int64_t p = 1; p < parts; ++p)
      for (int64_t i = 0; i < size; ++i) sums.data[i] += sums.data[p * size + i];
    for (int64_t lag = 0; lag < s.width; ++lag)
      for (int64_t d = 0; d < s.D; ++d) data<T>(d_w)[d * s.width + s.width - 1 - lag] = sums.data[lag * s.D + d];
    std::copy(sums.data + s.width * s.D, sums.data + size, data<T>(d_b));
  });
  return {d_x, d_w, d_b, d_buffer};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("short_conv", TORCH_BOX(&Widened<&short_conv>::call));
  m.impl("short_conv_backward", TORCH_BOX(&Widened<&short_conv_backward>::call));
}

}  // namespace memsuite
