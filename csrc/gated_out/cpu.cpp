// The output map of heads on CPU tensors.
#include "common/packed.h"
#include "common/tensors.h"
#include "gated_out/job.h"

namespace memsuite {
namespace {

// The sizes of an output map of heads: y [.., H, V], a gate of the same shape or none, weight [D, H V].
struct OutShape {
  int64_t heads, size, joined, width, rows;
  std::vector<int64_t> y, gate, out;

  OutShape(const Tensor& given, const Tensor& weight, int64_t kind) {
    STD_TORCH_CHECK(given.dim() > 1 && weight.dim() == 2 && kind >= 0 && kind < kGateKinds,
                    "memsuite::gated_out: y must be [.., H, V], weight [D, H V], and the gate of a known kind");
    y = shape_of(given, last_of(given));
    heads = y[y.size() - 2], size = y.back(), joined = heads * size, width = weight.size(0);
    rows = rows_of(given) / std::max<int64_t>(heads, 1);
    gate = kind == kNone ? std::vector<int64_t>{0} : y;
    out.assign(y.begin(), y.end() - 2);
    out.push_back(width);
  }
  std::vector<int64_t> weight() const { return {width, joined}; }
};

Tensor gated_out(const Tensor& y, const Tensor& gate, const Tensor& weight, double eps, int64_t kind) {
  const OutShape s(y, weight, kind);
  const ScalarType type = y.scalar_type();
  const Input in(y, type, s.y), w(weight, type, s.weight()), opening(gate, type, s.gate);
  const Output out(y, s.out);
  by_type(y, [&](auto number) {
    using T = decltype(number);
    GatedOutJob<T> job{s.rows, s.heads, s.size, s.width, static_cast<T>(eps)};
    job.y = in, job.gate = opening, job.out = out;
    const PackedMap<T> packed(w, s.width, s.joined, true);
    const auto loop = kernels<GatedOutKernels<T>>().forward[kind];
    share(s.rows, s.width * s.joined, 96, [&](int64_t first, int64_t last) { loop(job, packed.data, first, last); });
  });
  return out.tensor;
}

std::tuple<Tensor, Tensor, Tensor> gated_out_backward(const Tensor& grad, const Tensor& y, const Tensor& gate,
                                                      const Tensor& weight, double eps, int64_t kind) {
  const OutShape s(y, weight, kind);
  const ScalarType type = y.scalar_type();
  const Input in(y, type, s.y), w(weight, type, s.weight()), g(grad, type, s.out), opening(gate, type, s.gate);
  const Output d_y(y, s.y), d_gate(y, s.gate), d_w(y, s.weight());
  by_type(y, [&](auto number) {
    using T = decltype(number);
    GatedOutJob<T> job{s.rows, s.heads, s.size, s.width, static_cast<T>(eps)};
    job.y = in, job.gate = opening, job.grad = g, job.d_y = d_y, job.d_gate = d_gate;
    const PackedMap<T> packed(w, s.width, s.joined, false);
    const auto loop = kernels<GatedOutKernels<T>>().backward[kind];
    in_parts(static_cast<T*>(d_w), s.width * s.joined, s.rows, 2 * s.width * s.joined,
             [&](T* sums, int64_t first, int64_t last) { loop(job, packed.data, sums, first, last); });
  });
  return {d_y.tensor, d_gate.tensor, d_w.tensor};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("gated_out", TORCH_BOX(&Widened<&gated_out>::call));
  m.impl("gated_out_backward", TORCH_BOX((&Widened<&gated_out_backward, 1, 2, 3>::call)));
}

}  // namespace memsuite
