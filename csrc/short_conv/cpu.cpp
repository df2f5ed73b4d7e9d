// The short causal convolution on CPU tensors.
#include "common/kernels.h"
#include "common/tensors.h"
#include "common/threads.h"
#include "short_conv/job.h"

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

// The taps [width][D] of a weight [D, W]; its last column belongs to the present step.
template <class T>
void turn_taps(T* taps, const T* weight, const ConvShape& s) {
  for (int64_t lag = 0; lag < s.width; ++lag)
    for (int64_t d = 0; d < s.D; ++d) taps[lag * s.D + d] = weight[d * s.width + s.width - 1 - lag];
}

Tensor short_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& buffer, const Tensor& reset,
                  bool silu) {
  ConvShape::check(x, weight);
  const ConvShape s(x, weight);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, s.all()), w(weight, type, s.weights()), added(bias, type, {s.D});
  const Input before(buffer, type, s.buffer()), r(reset, ScalarType::Bool, s.rows());
  const Output y(x, s.all());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Aligned<T> taps(s.width * s.D);
    turn_taps<T>(taps.data, w, s);
    ShortConvJob<T> job{s.T, s.B, s.D, s.width, silu};
    job.x = in, job.taps = taps.data, job.bias = added, job.buffer = before, job.reset = r, job.y = y;
    share(s.B, s.T * s.D * s.width, 1,
          [&](int64_t first, int64_t last) { kernels<ShortConvKernels<T>>().forward(job, first, last); });
  });
  return y.tensor;
}

// Runs the backward pass. The number of parts of the sums does not depend on the number of threads, so neither do the
// bits.
template <class T>
void backward(const ShortConvJob<T>& job, T* d_w, T* d_b) {
  const int64_t width = job.width, D = job.size, parts = std::min<int64_t>(job.batch, 16), size = (width + 1) * D;
  const int64_t some = std::max<int64_t>(parts, 1);
  const Aligned<T> sums(some * size);
  std::fill(sums.data, sums.data + size, T(0));
  share(parts, 3 * job.steps * D * width * job.batch / some, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      kernels<ShortConvKernels<T>>().backward(job, sums.data + p * size, p * job.batch / parts,
                                              (p + 1) * job.batch / parts);
  });
  for (int64_t p = 1; p < parts; ++p)
    for (int64_t i = 0; i < size; ++i) sums.data[i] += sums.data[p * size + i];
  for (int64_t lag = 0; lag < width; ++lag)
    for (int64_t d = 0; d < D; ++d) d_w[d * width + width - 1 - lag] = sums.data[lag * D + d];
  std::copy(sums.data + width * D, sums.data + size, d_b);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> short_conv_backward(const Tensor& grad, const Tensor& x,
                                                               const Tensor& weight, const Tensor& bias,
                                                               const Tensor& buffer, const Tensor& reset, bool silu) {
  ConvShape::check(x, weight);
  const ConvShape s(x, weight);
  const ScalarType type = x.scalar_type();
  const Input g(grad, type, s.all()), in(x, type, s.all()), w(weight, type, s.weights());
  const Input added(bias, type, {s.D}), before(buffer, type, s.buffer()), r(reset, ScalarType::Bool, s.rows());
  const Output d_x(x, s.all()), d_w(x, s.weights()), d_b(x, {s.D}), d_buffer(x, s.buffer());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    const Aligned<T> taps(s.width * s.D);
    turn_taps<T>(taps.data, w, s);
    ShortConvJob<T> job{s.T, s.B, s.D, s.width, silu};
    job.grad = g, job.x = in, job.taps = taps.data, job.bias = added, job.buffer = before, job.reset = r;
    job.d_x = d_x, job.d_buffer = d_buffer;
    backward<T>(job, d_w, d_b);
  });
  return {d_x.tensor, d_w.tensor, d_b.tensor, d_buffer.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("short_conv", TORCH_BOX(&Widened<&short_conv>::call));
  m.impl("short_conv_backward", TORCH_BOX(&Widened<&short_conv_backward>::call));
}

}  // namespace memsuite
