// The arguments of a kernel of the output map of heads; see memsuite/ops/fused/gated_out.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// The kinds of gates, in the order of NONE, SILU and SIGMOID in gated_out.py.
enum GateKind { kNone, kSilu, kSigmoid, kGateKinds };

// y, gate and their gradients are [rows, heads, size]; out and grad are [rows, width].
template <class T>
struct GatedOutJob {
  int64_t rows, heads, size, width;
  T eps = 0;
  const T *y = nullptr, *gate = nullptr, *grad = nullptr;
  T *out = nullptr, *d_y = nullptr, *d_gate = nullptr;
};

// Over rows [first, last), indexed by the kind of the gate. `sums` gets the gradient of the weight, [width, heads
// size].
template <class T>
struct GatedOutKernels {
  void (*forward[kGateKinds])(const GatedOutJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward[kGateKinds])(const GatedOutJob<T>&, const T* packed, T* sums, int64_t first, int64_t last);
};

}  // namespace memsuite
