// Maps of rows with something fused around them, on CPU tensors; see binding.cpp.
#include "levels.h"
#include "tensors.h"

namespace memsuite {
namespace {

int64_t last_of(const Tensor& x) { return x.size(x.dim() - 1); }

// A weight [out, in] packed for rows times its transpose, or for rows times itself.
template <class T>
struct Packed : Aligned<T> {
  Packed(const T* weight, int64_t out, int64_t in, bool transposed)
      : Aligned<T>(table<T>().widening_packed(transposed ? in : out, transposed ? out : in)) {
    transposed ? table<T>().pack_widening(this->data, weight, in, out, 1, in)
               : table<T>().pack_widening(this->data, weight, out, in, in, 1);
  }
};

std::tuple<Tensor, Tensor, Tensor> gated_mlp(const Tensor& x, const Tensor& up, const Tensor& down, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && up.dim() == 2 && down.dim() == 2,
                  "memsuite::gated_mlp: x must be [.., D], up [2 I, D], down [D, I]");
  const int64_t width = last_of(x), inner = down.size(1), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), u(up, type, {2 * inner, width}), d(down, type, {width, inner});
  Tensor y = make(x, shape_of(x, width)), hidden = make(x, shape_of(x, 2 * inner)), scale = make(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    MlpJob<T> job{rows, width, inner, static_cast<T>(eps)};
    job.x = in, job.y = data<T>(y), job.hidden = data<T>(hidden), job.scale = data<T>(scale);
    const Packed<T> first_map(u, 2 * inner, width, true), second(d, width, inner, true);
    share(rows, 3 * inner * width, 96, [&](int64_t first, int64_t last) {
      table<T>().gated_mlp(job, first_map.data, second.data, first, last);
    });
  });
  return {y, hidden, scale};
}

std::tuple<Tensor, Tensor, Tensor> gated_mlp_backward(const Tensor& grad, const Tensor& x, const Tensor& up,
                                                      const Tensor& down, const Tensor& hidden, const Tensor& scale) {
  const int64_t width = last_of(x), inner = down.size(1), rows = rows_of(x), size = inner * width;
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), g(grad, type, shape_of(x, width)), u(up, type, {2 * inner, width});
  const Input d(down, type, {width, inner}), kept(hidden, type, shape_of(x, 2 * inner));
  const Input factor(scale, type, shape_of(x, 1));
  Tensor d_x = make(x, shape_of(x, width)), d_up = make(x, {2 * inner, width}), d_down = make(x, {width, inner});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    MlpJob<T> job{rows, width, inner};
    job.x = in, job.grad = g, job.y = data<T>(d_x);
    job.hidden = const_cast<T*>(static_cast<const T*>(kept));
    job.scale = const_cast<T*>(static_cast<const T*>(factor));
    const Packed<T> first_map(u, 2 * inner, width, false), second(d, width, inner, false);
    const Aligned<T> both(3 * size);
    in_parts(both.data, 3 * size, rows, 6 * size, [&](T* sums, int64_t first, int64_t last) {
      table<T>().gated_mlp_backward(job, first_map.data, second.data, sums, first, last);
    });
    std::copy(both.data, both.data + 2 * size, data<T>(d_up));
    std::copy(both.data + 2 * size, both.data + 3 * size, data<T>(d_down));
  });
  return {d_x, d_up, d_down};
}

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, const Tensor& gain, double eps) {
  STD_TORCH_CHECK(x.dim() > 0 && gain.dim() == 1, "memsuite::rms_norm: x must be [.., D], gain [D]");
  const int64_t width = last_of(x), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), w(gain, type, {width});
  Tensor y = make(x, shape_of(x, width)), scale = make(x, shape_of(x, 1));
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NormJob<T> job{rows, width, static_cast<T>(eps)};
    job.x = in, job.gain = w, job.y = data<T>(y), job.scale = data<T>(scale);
    share(rows, width, 1, [&](int64_t first, int64_t last) { table<T>().rms_norm(job, first, last); });
  });
  return {y, scale};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& gain,
                                             const Tensor& scale) {
  const int64_t width = last_of(x), rows = rows_of(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, shape_of(x, width)), g(grad, type, shape_of(x, width)), w(gain, type, {width});
  const Input factor(scale, type, shape_of(x, 1));
  Tensor d_x = make(x, shape_of(x, width)), d_gain = make(x, {width});
  by_type(x, [&](auto number) {
    using T = decltype(number);
    NormJob<T> job{rows, width};
    job.x = in, job.gain = w, job.grad = g, job.y = data<T>(d_x);
    job.scale = const_cast<T*>(static_cast<const T*>(factor));
    in_parts(data<T>(d_gain), width, rows, 4 * width, [&](T* sums, int64_t first, int64_t last) {
      table<T>().rms_norm_backward(job, sums, first, last);
    });
  });
  return {d_x, d_gain};
}

// The sizes of a read-out of heads: y [.., H, V], a gate like it or none, weight [D, H V].
struct OutShape {
  int64_t heads, size, joined, width, rows;
  std::vector<int64_t> y, out;

  OutShape(const Tensor& given, const Tensor& weight, int64_t kind) {
    STD_TORCH_CHECK(given.dim() > 1 && weight.dim() == 2 && kind >= 0 && kind < kGateKinds,
                    "memsuite::gated_out: y must be [.., H, V], weight [D, H V], and the gate of a known kind");
    for (int64_t i = 0; i < given.dim(); ++i) y.push_back(given.size(i));
    heads = y[y.size() - 2], size = y.back(), joined = heads * size, width = weight.size(0);
    rows = rows_of(given) / std::max<int64_t>(heads, 1);
    out.assign(y.begin(), y.end() - 2);
    out.push_back(width);
  }
};

Tensor gated_out(const Tensor& y, const Tensor& gate, const Tensor& weight, double eps, int64_t kind) {
  const OutShape s(y, weight, kind);
  const ScalarType type = y.scalar_type();
  const Input in(y, type, s.y), w(weight, type, {s.width, s.joined});
  const Input opening(gate, type, kind == kNone ? std::vector<int64_t>{0} : s.y);
  Tensor out = make(y, s.out);
  by_type(y, [&](auto number) {
    using T = decltype(number);
    OutJob<T> job{s.rows, s.heads, s.size, s.width, static_cast<T>(eps)};
    job.y = in, job.gate = opening, job.out = data<T>(out);
    const Packed<T> packed(w, s.width, s.joined, true);
    share(s.rows, s.width * s.joined, 96, [&](int64_t first, int64_t last) {
      table<T>().gated_out[kind](job, packed.data, first, last);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> gated_out_backward(const Tensor& grad, const Tensor& y, const Tensor& gate,
                                                      const Tensor& weight, double eps, int64_t kind) {
  const OutShape s(y, weight, kind);
  const ScalarType type = y.scalar_type();
  const Input in(y, type, s.y), w(weight, type, {s.width, s.joined}), g(grad, type, s.out);
  const Input opening(gate, type, kind == kNone ? std::vector<int64_t>{0} : s.y);
  Tensor d_y = make(y, s.y), d_gate = make(y, kind == kNone ? std::vector<int64_t>{0} : s.y);
  Tensor d_w = make(y, {s.width, s.joined});
  by_type(y, [&](auto number) {
    using T = decltype(number);
    OutJob<T> job{s.rows, s.heads, s.size, s.width, static_cast<T>(eps)};
    job.y = in, job.gate = opening, job.grad = g, job.d_y = data<T>(d_y), job.d_gate = data<T>(d_gate);
    const Packed<T> packed(w, s.width, s.joined, false);
    in_parts(data<T>(d_w), s.width * s.joined, s.rows, 2 * s.width * s.joined,
             [&](T* sums, int64_t first, int64_t last) {
               table<T>().gated_out_backward[kind](job, packed.data, sums, first, last);
             });
  });
  return {d_y, d_gate, d_w};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("gated_mlp", TORCH_BOX(&Widened<&gated_mlp>::call));
  m.impl("gated_mlp_backward", TORCH_BOX(&Widened<&gated_mlp_backward>::call));
  m.impl("rms_norm", TORCH_BOX(&Widened<&rms_norm>::call));
  m.impl("rms_norm_backward", TORCH_BOX(&Widened<&rms_norm_backward>::call));
  m.impl("gated_out", TORCH_BOX(&Widened<&gated_out>::call));
  m.impl("gated_out_backward", TORCH_BOX(&Widened<&gated_out_backward>::call));
}

}  // namespace memsuite
