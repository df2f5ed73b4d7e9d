// The ops on CPU tensors, in LibTorch's stable ABI: one library serves every torch from 2.10 on.
//
// Schemas, shapes of fakes and autograd live in memsuite/ops; what is registered here takes the place of the PyTorch
// reference there. Tensors are made contiguous, half precision is computed in float32.
#include "levels.h"
#include "tensors.h"

namespace memsuite {
namespace {

// Sets the level, if this processor has it, and returns the one in force; tests compare the levels.
int64_t kernel_level(int64_t level) {
  if (level >= 0 && level <= best_level()) current_level = static_cast<int>(level);
  return current_level;
}

Tensor pscan(const Tensor& x, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::pscan: x must be [T, B, D]");
  const Shape s(x);
  const ScalarType type = x.scalar_type();
  const Input in(x, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  Tensor out = make(x, s.all());
  by_type(x, [&](auto number) {
    using T = decltype(number);
    PscanJob<T> job{s.T, s.B, s.D};
    job.x = in, job.h0 = h, job.reset = r, job.out = data<T>(out);
    share(s.B, s.T * s.D, 1, [&](int64_t first, int64_t last) { table<T>().pscan(job, first, last); });
  });
  return out;
}

std::tuple<Tensor, Tensor> pscan_backward(const Tensor& grad, const Tensor& out, const Tensor& reset) {
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const Input g(grad, type, s.all()), o(out, type, s.all()), r(reset, ScalarType::Bool, s.rows());
  Tensor dx = make(out, s.all()), dh0 = make(out, s.state());
  by_type(out, [&](auto number) {
    using T = decltype(number);
    PscanJob<T> job{s.T, s.B, s.D};
    job.grad = g, job.states = o, job.reset = r, job.dx = data<T>(dx), job.d_h0 = data<T>(dh0);
    share(s.B, s.T * s.D, 1, [&](int64_t first, int64_t last) { table<T>().pscan_backward(job, first, last); });
  });
  return {dx, dh0};
}

Tensor diagonal_scan(const Tensor& a, const Tensor& x, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(x.dim() == 3, "memsuite::diagonal_scan: x must be [T, B, D]");
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
    share(s.B, s.T * s.D, 1, [&](int64_t first, int64_t last) { table<T>().diagonal[complex](job, first, last); });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> diagonal_scan_backward(const Tensor& grad, const Tensor& a, const Tensor& out,
                                                          const Tensor& reset, const Tensor& h0) {
  const Shape s(out);
  const ScalarType type = out.scalar_type();
  const bool constant = a.dim() == 1, complex = is_complex(type);
  const Input decay(a, type, constant ? std::vector<int64_t>{s.D} : s.all()), o(out, type, s.all());
  const Input g(grad, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  Tensor dx = make(out, s.all()), dh0 = make(out, s.state()), da = make(out, constant ? s.state() : s.all());
  by_type(out, [&](auto number) {
    using T = decltype(number);
    DiagonalJob<T> job{s.T, s.B, complex ? 2 * s.D : s.D, constant};
    job.a = decay, job.h0 = h, job.states = o, job.grad = g, job.reset = r;
    job.d_a = data<T>(da), job.dx = data<T>(dx), job.d_h0 = data<T>(dh0);
    share(s.B, s.T * s.D, 1,
          [&](int64_t first, int64_t last) { table<T>().diagonal_backward[complex](job, first, last); });
    if (!constant) return;
    for (int64_t b = 1; b < s.B; ++b)  // one environment after the other, whatever the threads
      for (int64_t i = 0; i < job.size; ++i) job.d_a[i] += job.d_a[b * job.size + i];
  });
  if (!constant) return {da, dx, dh0};
  return {torch::stable::clone(torch::stable::select(da, 0, 0)), dx, dh0};
}

std::tuple<Tensor, Tensor, Tensor> gru_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                            const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2, "memsuite::gru_scan: gi must be [T, B, 3 D], h0 [B, D]");
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(3)), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(w_hh, type, {3 * s.D, s.D}), b(b_hh, type, {3 * s.D});
  Tensor out = make(gi, s.all()), gates = make(gi, s.gates(3)), candidates = make(gi, s.all());
  by_type(gi, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    GruJob<T> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.reset = r, job.out = data<T>(out);
    job.gates = data<T>(gates), job.candidates = data<T>(candidates);
    share(s.B, 3 * s.T * s.D * s.D, 4, [&](int64_t first, int64_t last) {
      const Aligned<T> packed(kernels.gru_packed(s.D));  // each thread packs for itself: it reads all of it at every step
      kernels.gru_pack(packed.data, w, b, s.D);
      kernels.gru(job, packed.data, first, last);
    });
  });
  return {out, gates, candidates};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gru_scan_backward(const Tensor& grad, const Tensor& states,
                                                             const Tensor& gates, const Tensor& candidates,
                                                             const Tensor& reset, const Tensor& h0,
                                                             const Tensor& w_hh) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), saved(gates, type, s.gates(3));
  const Input n(candidates, type, s.all()), r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state());
  const Input w(w_hh, type, {3 * s.D, s.D});
  Tensor d_gi = make(states, s.gates(3)), d_gn = make(states, s.all()), d_h0 = make(states, s.state());
  Tensor d_w = make(states, {3 * s.D, s.D}), d_b = make(states, {3 * s.D});
  by_type(states, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    GruJob<T> job{s.T, s.B, s.D};
    job.grad = g, job.states = y, job.h0 = h, job.reset = r;
    job.gates = const_cast<T*>(static_cast<const T*>(saved));
    job.candidates = const_cast<T*>(static_cast<const T*>(n));
    job.d_gi = data<T>(d_gi), job.d_gn = data<T>(d_gn), job.d_h0 = data<T>(d_h0);
    job.d_w = data<T>(d_w), job.d_b = data<T>(d_b);
    const int64_t work = 3 * s.T * s.D * s.D, rows = kernels.outer_rows, tiles = (3 * s.D + rows - 1) / rows;
    share(s.B, work, 4, [&](int64_t first, int64_t last) {
      const Aligned<T> packed(kernels.widening_packed(3 * s.D, s.D));
      kernels.pack_widening(packed.data, w, 3 * s.D, s.D, s.D, 1);
      kernels.gru_backward(job, packed.data, first, last);
    });
    share(tiles, work * s.B / tiles, 1, [&](int64_t first, int64_t last) { kernels.gru_weights(job, first, last); });
  });
  return {d_gi, d_h0, d_w, d_b};
}

std::tuple<Tensor, Tensor, Tensor> lstm_scan(const Tensor& gi, const Tensor& reset, const Tensor& h0,
                                             const Tensor& c0, const Tensor& w_hh, const Tensor& b_hh) {
  STD_TORCH_CHECK(gi.dim() == 3 && h0.dim() == 2, "memsuite::lstm_scan: gi must be [T, B, 4 D], h0 [B, D]");
  Shape s(gi);
  s.D = h0.size(1);
  const ScalarType type = gi.scalar_type();
  const Input in(gi, type, s.gates(4)), r(reset, ScalarType::Bool, s.rows());
  const Input h(h0, type, s.state()), c(c0, type, s.state());
  const Input w(w_hh, type, {4 * s.D, s.D}), b(b_hh, type, {4 * s.D});
  Tensor out = make(gi, s.all()), cells = make(gi, s.all()), gates = make(gi, s.gates(4));
  by_type(gi, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    LstmJob<T> job{s.T, s.B, s.D};
    job.gi = in, job.h0 = h, job.c0 = c, job.reset = r;
    job.out = data<T>(out), job.cells = data<T>(cells), job.gates = data<T>(gates);
    share(s.B, 4 * s.T * s.D * s.D, 4, [&](int64_t first, int64_t last) {
      const Aligned<T> packed(kernels.lstm_packed(s.D));  // each thread packs for itself: it reads all of it at every step
      kernels.lstm_pack(packed.data, w, b, s.D);
      kernels.lstm(job, packed.data, first, last);
    });
  });
  return {out, cells, gates};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lstm_scan_backward(
    const Tensor& grad, const std::optional<Tensor>& grad_cells, const Tensor& states, const Tensor& cells,
    const Tensor& gates, const Tensor& reset, const Tensor& h0, const Tensor& c0, const Tensor& w_hh) {
  const Shape s(states);
  const ScalarType type = states.scalar_type();
  const Input g(grad, type, s.all()), y(states, type, s.all()), kept(cells, type, s.all());
  const Input g_c(grad_cells.value_or(grad), type, s.all()), saved(gates, type, s.gates(4));
  const Input r(reset, ScalarType::Bool, s.rows()), h(h0, type, s.state()), c(c0, type, s.state());
  const Input w(w_hh, type, {4 * s.D, s.D});
  Tensor d_gi = make(states, s.gates(4)), d_h0 = make(states, s.state()), d_c0 = make(states, s.state());
  Tensor d_w = make(states, {4 * s.D, s.D}), d_b = make(states, {4 * s.D});
  by_type(states, [&](auto number) {
    using T = decltype(number);
    const Table<T>& kernels = table<T>();
    LstmJob<T> job{s.T, s.B, s.D};
    job.grad = g, job.grad_cells = grad_cells.has_value() ? static_cast<const T*>(g_c) : nullptr;
    job.states = y, job.h0 = h, job.c0 = c, job.reset = r;
    job.cells = const_cast<T*>(static_cast<const T*>(kept));
    job.gates = const_cast<T*>(static_cast<const T*>(saved));
    job.d_gi = data<T>(d_gi), job.d_h0 = data<T>(d_h0), job.d_c0 = data<T>(d_c0);
    job.d_w = data<T>(d_w), job.d_b = data<T>(d_b);
    const int64_t work = 4 * s.T * s.D * s.D, rows = kernels.outer_rows, tiles = (4 * s.D + rows - 1) / rows;
    share(s.B, work, 4, [&](int64_t first, int64_t last) {
      const Aligned<T> packed(kernels.widening_packed(4 * s.D, s.D));
      kernels.pack_widening(packed.data, w, 4 * s.D, s.D, s.D, 1);
      kernels.lstm_backward(job, packed.data, first, last);
    });
    share(tiles, work * s.B / tiles, 1, [&](int64_t first, int64_t last) { kernels.lstm_weights(job, first, last); });
  });
  return {d_gi, d_h0, d_c0, d_w, d_b};
}

std::tuple<Tensor, Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
                                                  const Tensor& c, const Tensor& reset, const Tensor& h0) {
  STD_TORCH_CHECK(u.dim() == 3 && a.dim() == 2, "memsuite::selective_scan: u must be [T, B, D], a [D, N]");
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
    share(s.B, 8 * s.T * s.D * N, 1, [&](int64_t first, int64_t end) { table<T>().selective(job, first, end); });
  });
  return {y, saved, last};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& grad, const Tensor& grad_last, const Tensor& u, const Tensor& dt, const Tensor& a, const Tensor& b,
    const Tensor& c, const Tensor& reset, const Tensor& saved) {
  const Shape s(u);
  const int64_t N = a.size(1), parts = std::min<int64_t>(s.B, 32);  // sums of d_a, the same whatever the threads
  const ScalarType type = u.scalar_type();
  const Input g(grad, type, s.all()), g_last(grad_last, type, {s.B, s.D, N});
  const Input in(u, type, s.all()), steps(dt, type, s.all()), rates(a, type, {s.D, N});
  const Input write(b, type, {s.T, s.B, N}), read(c, type, {s.T, s.B, N}), r(reset, ScalarType::Bool, s.rows());
  const Input kept(saved, type, {(s.T + kBlock - 1) / kBlock, s.B, N, s.D});
  Tensor d_u = make(u, s.all()), d_dt = make(u, s.all()), d_a = make(u, {s.D, N});
  Tensor d_b = make(b, {s.T, s.B, N}), d_c = make(c, {s.T, s.B, N}), d_h0 = make(u, {s.B, s.D, N});
  by_type(u, [&](auto number) {
    using T = decltype(number);
    SelectiveJob<T> job{s.T, s.B, s.D, N, kBlock};
    job.u = in, job.dt = steps, job.a = rates, job.b = write, job.c = read, job.reset = r;
    job.grad = g, job.grad_last = g_last, job.saved = const_cast<T*>(static_cast<const T*>(kept));
    job.d_u = data<T>(d_u), job.d_dt = data<T>(d_dt), job.d_b = data<T>(d_b), job.d_c = data<T>(d_c);
    job.d_h0 = data<T>(d_h0);
    const Aligned<T> sums(parts * N * s.D);
    share(parts, 16 * s.T * s.D * N * s.B / parts, 1, [&](int64_t first, int64_t end) {
      for (int64_t p = first; p < end; ++p)
        table<T>().selective_backward(job, sums.data + p * N * s.D, p * s.B / parts, (p + 1) * s.B / parts);
    });
    for (int64_t p = 1; p < parts; ++p)
      for (int64_t i = 0; i < N * s.D; ++i) sums.data[i] += sums.data[p * N * s.D + i];
    for (int64_t d = 0; d < s.D; ++d)
      for (int64_t n = 0; n < N; ++n) data<T>(d_a)[d * N + n] = sums.data[n * s.D + d];
  });
  return {d_u, d_dt, d_a, d_b, d_c, d_h0};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) { m.def("kernel_level(int level) -> int"); }

STABLE_TORCH_LIBRARY_IMPL(memsuite, CompositeExplicitAutograd, m) { m.impl("kernel_level", TORCH_BOX(&kernel_level)); }

STABLE_TORCH_LIBRARY_IMPL(memsuite, CPU, m) {
  m.impl("pscan", TORCH_BOX(&Widened<&pscan>::call));
  m.impl("pscan_backward", TORCH_BOX(&Widened<&pscan_backward>::call));
  m.impl("diagonal_scan", TORCH_BOX(&Widened<&diagonal_scan>::call));
  m.impl("diagonal_scan_backward", TORCH_BOX(&Widened<&diagonal_scan_backward>::call));
  m.impl("gru_scan", TORCH_BOX(&Widened<&gru_scan>::call));
  m.impl("gru_scan_backward", TORCH_BOX(&Widened<&gru_scan_backward>::call));
  m.impl("lstm_scan", TORCH_BOX(&Widened<&lstm_scan>::call));
  m.impl("lstm_scan_backward", TORCH_BOX(&Widened<&lstm_scan_backward>::call));
  m.impl("selective_scan", TORCH_BOX(&Widened<&selective_scan>::call));
  m.impl("selective_scan_backward", TORCH_BOX(&Widened<&selective_scan_backward>::call));
}

}  // namespace memsuite
