// The ops on CUDA tensors, in LibTorch's stable ABI; needs no CUDA headers, as the kernels come behind plain functions.
//
// Schemas, fakes and autograd live in memsuite/ops. Tensors are made contiguous, half precision is computed in float32,
// everything goes on the stream that is current on the tensors' device. The kernels have been compiled, and run in a
// host emulation (MEMSUITE_EMULATED, which registers them for the CPU); they have not yet run on a GPU.
#include "../tensors.h"
#include "launch.h"

#if defined(MEMSUITE_EMULATED)
#define MEMSUITE_KEY CPU
#else
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#define MEMSUITE_KEY CUDA
#endif

namespace memsuite {
namespace {

#if defined(MEMSUITE_EMULATED)
struct Place {
  void* stream = nullptr;
  template <class... Others>
  explicit Place(const Others&...) {}
};
#else
// The device of an op's tensors, current while this lives, and its current stream.
struct Place {
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;
  template <class... Others>
  explicit Place(const Tensor& like, const Others&... others) : guard(like.get_device_index()) {
    for (const Tensor* other : {&others...})
      STD_TORCH_CHECK(other->is_cuda() && other->get_device_index() == like.get_device_index(),
                      "memsuite: tensors of one op must be on one device");
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
  }
};
#endif

void check(int code) { STD_TORCH_CHECK(code == 0, "memsuite: a CUDA kernel failed: ", cuda::error_text(code)); }

Tensor pscan(const Tensor& x, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::pscan: x must be [T, B, D]");
  const Place place(x, reset, h0);
  const Shape s(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  Tensor out = make(x, s.all());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    PscanJob<T> job{s.T, s.B, s.D};
    job.x = in, job.h0 = h, job.reset = r, job.out = data<T>(out);
    check(cuda::pscan(job, place.stream));
  });
  return out;
}

std::tuple<Tensor, Tensor> pscan_backward(const Tensor& grad, const Tensor& out, const Tensor& reset) {
  const Place place(out, grad, reset);
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const Input g(grad, type, s.all()), o(out, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  Tensor dx = make(out, s.all()), dh0 = make(out, s.state());
  by_type(out, [&](auto number) {
    using T = decltype(number);
    PscanJob<T> job{s.T, s.B, s.D};
    job.grad = g, job.states = o, job.reset = r, job.dx = data<T>(dx), job.d_h0 = data<T>(dh0);
    check(cuda::pscan_backward(job, place.stream));
  });
  return {dx, dh0};
}

Tensor diagonal_scan(const Tensor& a, const Tensor& x, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::diagonal_scan: x must be [T, B, D]");
  const Place place(x, a, reset, h0);
  const Shape s(x);
  const ScalarType type = x.scalar_type();
  const bool constant = a.dim() == 1, complex = is_complex(type);
  const Input decay(a, type, constant ? std::vector<int64_t>{s.D} : s.all()), in(x, type, s.all());
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  Tensor out = make(x, s.all());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    DiagonalJob<T> job{s.T, s.B, complex ? 2 * s.D : s.D, constant};
    job.a = decay, job.x = in, job.h0 = h, job.reset = r, job.out = data<T>(out);
    check(cuda::diagonal(job, complex, place.stream));
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> diagonal_scan_backward(const Tensor& grad, const Tensor& a, const Tensor& out,
                                                          const Tensor& reset, const Tensor& h0) {
  const Place place(out, grad, a, reset, h0);
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const bool constant = a.dim() == 1, complex = is_complex(type);
  const Input decay(a, type, constant ? std::vector<int64_t>{s.D} : s.all()), o(out, type, s.all());
  const Input g(grad, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  Tensor dx = make(out, s.all()), dh0 = make(out, s.state()), total = make(out, {s.D});
  Tensor da = make(out, constant ? s.state() : s.all());
  by_type(out, [&](auto number) {
    using T = decltype(number);
    DiagonalJob<T> job{s.T, s.B, complex ? 2 * s.D : s.D, constant};
    job.a = decay, job.h0 = h, job.states = o, job.grad = g, job.reset = r;
    job.d_a = data<T>(da), job.dx = data<T>(dx), job.d_h0 = data<T>(dh0);
    check(cuda::diagonal_backward(job, data<T>(total), complex, place.stream));
  });
  return {constant ? total : da, dx, dh0};
}

std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                            const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2 && w_hh.dim() == 2, "memsuite::gru_scan: wrong number of dimensions");
  const Place place(gi, reset, h0, w_hh, b_hh);
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(3)), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(torch::stable::transpose(w_hh, 0, 1), type, {s.D, 3 * s.D}), b(b_hh, type, {3 * s.D});
  Tensor out = make(gi, s.all()), gates = make(gi, s.gates(3)), candidates = make(gi, s.all());
  by_type(gi, [&](auto number) {
    using T = decltype(number);
    GruJob<T> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.reset = r, job.weights = w, job.biases = b;
    job.out = data<T>(out), job.gates = data<T>(gates), job.candidates = data<T>(candidates);
    check(cuda::gru(job, place.stream));
  });
  return {out, gates, candidates};
}

// The recurrent half of gru_scan_backward: d_gi, the gradient of g_n, d_h0, and the states before each step, of which
// memsuite/ops/_build_cuda.py makes the gradients of the weights by matrix products.
std::tuple<Tensor, Tensor, Tensor, Tensor> gru_scan_flow(const Tensor& grad, const Tensor& states, const Tensor& gates,
                                                         const Tensor& candidates, const Tensor& reset,
                                                         const Tensor& h0, const Tensor& w_hh) {
  const Place place(states, grad, gates, candidates, reset, h0, w_hh);
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), saved(gates, type, s.gates(3));
  const Input n(candidates, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(w_hh, type, {3 * s.D, s.D});
  Tensor d_gi = make(states, s.gates(3)), d_gn = make(states, s.all()), d_h0 = make(states, s.state());
  Tensor previous = make(states, s.all());
  by_type(states, [&](auto number) {
    using T = decltype(number);
    GruJob<T> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.reset = r, job.weights = w;
    job.gates = const_cast<T*>(static_cast<const T*>(saved));
    job.candidates = const_cast<T*>(static_cast<const T*>(n));
    job.d_gi = data<T>(d_gi), job.d_gn = data<T>(d_gn), job.d_h0 = data<T>(d_h0);
    check(cuda::gru_backward(job, data<T>(previous), place.stream));
  });
  return {d_gi, d_gn, d_h0, previous};
}

std::tuple<Tensor, Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
                                                  const Tensor& c, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(u.dim() == 3 && a.dim() == 2, "memsuite::selective_scan: u must be [T, B, D], a [D, N]");
  const Place place(u, dt, a, b, c, reset, h0);
  const Shape s(u);
  const int64_t N = a.size(1);
  const ScalarType type = u.scalar_type();
  const Input in(u, type, s.all()), steps(dt, type, s.all()), rates(a, type, {s.D, N});
  const Input write(b, type, {s.T, s.B, N}), read(c, type, {s.T, s.B, N});
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, {s.B, s.D, N});
  Tensor y = make(u, s.all()), last = make(u, {s.B, s.D, N});
  Tensor saved = make(u, {(s.T + kBlock - 1) / kBlock, s.B, N, s.D});
  by_type(u, [&](auto number) {
    using T = decltype(number);
    SelectiveJob<T> job{s.T, s.B, s.D, N, kBlock};
    job.u = in, job.dt = steps, job.a = rates, job.b = write, job.c = read, job.reset = r, job.h0 = h;
    job.y = data<T>(y), job.saved = data<T>(saved), job.last = data<T>(last);
    check(cuda::selective(job, place.stream));
  });
  return {y, saved, last};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& grad, const Tensor& grad_last, const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
    const Tensor& c, const Tensor& reset, const Tensor& saved) {
  const Place place(u, grad, grad_last, dt, a, b, c, reset, saved);
  const Shape s(u);
  const int64_t N = a.size(1), parts = (s.D + cuda::kSelectiveChannels - 1) / cuda::kSelectiveChannels;
  const ScalarType type = u.scalar_type();
  const Input g(grad, type, s.all()), g_last(grad_last, type, {s.B, s.D, N});
  const Input in(u, type, s.all()), steps(dt, type, s.all()), rates(a, type, {s.D, N});
  const Input write(b, type, {s.T, s.B, N}), read(c, type, {s.T, s.B, N}), r(reset, ScalarType::Bool, s.rows());
  const Input kept(saved, type, {(s.T + kBlock - 1) / kBlock, s.B, N, s.D});
  Tensor d_u = make(u, s.all()), d_dt = make(u, s.all()), d_a = make(u, {s.D, N});
  Tensor d_b = make(b, {s.T, s.B, N}), d_c = make(c, {s.T, s.B, N}), d_h0 = make(u, {s.B, s.D, N});
  Tensor d_a_each = make(u, {s.B, s.D, N}), scratch = make(u, {parts > 1 ? 2 * parts : 0, s.T, s.B, N});
  by_type(u, [&](auto number) {
    using T = decltype(number);
    SelectiveJob<T> job{s.T, s.B, s.D, N, kBlock};
    job.u = in, job.dt = steps, job.a = rates, job.b = write, job.c = read, job.reset = r;
    job.grad = g, job.grad_last = g_last, job.saved = const_cast<T*>(static_cast<const T*>(kept));
    job.d_u = data<T>(d_u), job.d_dt = data<T>(d_dt), job.d_b = data<T>(d_b), job.d_c = data<T>(d_c);
    job.d_h0 = data<T>(d_h0);
    cuda::SelectiveSums<T> sums{data<T>(d_a_each), job.d_b, job.d_c, data<T>(d_a)};
    if (parts > 1) sums.d_b_parts = data<T>(scratch), sums.d_c_parts = data<T>(scratch) + parts * s.T * s.B * N;
    check(cuda::selective_backward(job, sums, place.stream));
  });
  return {d_u, d_dt, d_a, d_b, d_c, d_h0};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def("gru_scan_flow(Tensor grad, Tensor states, Tensor gates, Tensor candidates, Tensor reset, Tensor h0,"
        " Tensor w_hh) -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, MEMSUITE_KEY, m) {
  m.impl("pscan", TORCH_BOX(&Widened<&pscan>::call));
  m.impl("pscan_backward", TORCH_BOX(&Widened<&pscan_backward>::call));
  m.impl("diagonal_scan", TORCH_BOX(&Widened<&diagonal_scan>::call));
  m.impl("diagonal_scan_backward", TORCH_BOX(&Widened<&diagonal_scan_backward>::call));
  m.impl("gru_scan", TORCH_BOX(&Widened<&gru_scan>::call));
  m.impl("gru_scan_flow", TORCH_BOX(&Widened<&gru_scan_flow>::call));
  m.impl("selective_scan", TORCH_BOX(&Widened<&selective_scan>::call));
  m.impl("selective_scan_backward", TORCH_BOX(&Widened<&selective_scan_backward>::call));
}

}  // namespace memsuite
