// What one instruction set offers: the loops of every op, for float and double. No torch here.
//
// Jobs are plain pointers to contiguous, time-major arrays; see memsuite/ops for what the ops mean. Loops take a range of
// environments [first, last), so that the caller may share them among threads.
#pragma once

#include <cstdint>

namespace memsuite {

template <class T>
struct PscanJob {
  int64_t steps, batch, size;
  const T *x, *h0, *states, *grad;
  const bool* reset;
  T *out, *dx, *d_h0;
};

template <class T>
struct DiagonalJob {
  int64_t steps, batch, size;  // size counts a complex number as two
  bool constant;               // a is [D], not [T, B, D]; then d_a is [B, D], to be added up over B
  const T *a, *x, *h0, *states, *grad;
  const bool* reset;
  T *out, *d_a, *dx, *d_h0;
};

template <class T>
struct GruJob {
  int64_t steps, batch, size;
  const T *gi, *h0, *states, *weights, *biases, *grad;
  const bool* reset;
  T *out, *gates, *candidates;
  T *d_gi, *d_gn, *d_h0, *d_w, *d_b;
};

template <class T>
struct LstmJob {
  int64_t steps, batch, size;
  const T *gi, *h0, *c0, *states, *weights, *biases, *grad, *grad_cells;  // grad_cells may be null
  const bool* reset;
  T *out, *cells, *gates;
  T *d_gi, *d_h0, *d_c0, *d_w, *d_b;
};

// As in memsuite/ops/selective_scan.py; `saved` holds the state before each block of time, [blocks, B, N, D].
template <class T>
struct SelectiveJob {
  int64_t steps, batch, size, states_each, block;
  const T *u, *dt, *a, *b, *c, *h0, *grad, *grad_last;
  const bool* reset;
  T *y, *saved, *last;
  T *d_u, *d_dt, *d_b, *d_c, *d_h0;
};

// As in memsuite/ops/matrix_scan.py; queries and keys have one head for all or one for each. beta is null without the
// delta rule. `states` holds the state before each chunk of time, [chunks, B, H, K, V].
template <class T>
struct MatrixJob {
  int64_t steps, batch, heads, query_heads, key_heads, keys, values, chunk;
  const T *q, *k, *v, *log_decay, *s0, *beta, *grad, *grad_last;
  const bool* reset;
  T *y, *states, *last;
  T *d_q, *d_k, *d_v, *d_log_decay, *d_s0, *d_beta;
};

// As in memsuite/ops/short_conv.py; width counts the step itself, and the taps are [width, D], the step's own first.
template <class T>
struct ConvJob {
  int64_t steps, batch, size, width;
  const T *x, *taps, *bias, *buffer, *grad;
  const bool* reset;
  T *y, *d_x, *d_buffer;
};

// Rows with a narrow side; see memsuite/ops/narrow_linear.py and normed_linear.py for which of x and y is wide.
template <class T>
struct NarrowJob {
  int64_t rows, narrow, wide;
  T eps;
  const T *x, *bias, *grad;
  T *y, *plain, *scale;
};

// As in memsuite/ops/gated_mlp.py; `y` is d_x in the backward pass.
template <class T>
struct MlpJob {
  int64_t rows, width, inner;
  T eps;
  const T *x, *grad;
  T *y, *hidden, *scale;
};

// As in memsuite/ops/rms_norm.py; `y` is d_x in the backward pass.
template <class T>
struct NormJob {
  int64_t rows, width;
  T eps;
  const T *x, *gain, *grad;
  T *y, *scale;
};

// As in memsuite/ops/gated_out.py; the gates' kinds are those of GATES there.
enum GateKind { kNone, kSilu, kSigmoid, kGateKinds };

template <class T>
struct OutJob {
  int64_t rows, heads, size, width;
  T eps;
  const T *y, *gate, *grad;
  T *out, *d_y, *d_gate;
};

template <class T>
struct LogProbJob {
  int64_t rows, width;
  const T *logits;
  const int64_t* actions;
  T* log_prob;
};

// What PPO's loss is made of.
enum LossSum { kPolicy, kValue, kEntropy, kBonus, kKl, kClipped, kLossSums };
constexpr int kTerms = 6;  // as TERMS in memsuite/ops/surrogate.py

// As in memsuite/ops/surrogate.py.
template <class T>
struct LossJob {
  int64_t rows, width;
  T clip, value_clip, value_coefficient, entropy_coefficient;
  bool clips_value, by_advantage;
  const T *logits, *values, *old_log_probs, *old_values, *advantages, *returns;
  const int64_t* actions;
  T *d_logits, *d_values;
};

template <class T>
struct Table {
  void (*pscan)(const PscanJob<T>&, int64_t first, int64_t last);
  void (*pscan_backward)(const PscanJob<T>&, int64_t first, int64_t last);
  // Indexed by whether the numbers are complex.
  void (*diagonal[2])(const DiagonalJob<T>&, int64_t first, int64_t last);
  void (*diagonal_backward[2])(const DiagonalJob<T>&, int64_t first, int64_t last);
  // Numbers in the packed weights; the packing; the loops; then the weights' gradient by tiles of `outer_rows` rows.
  int64_t (*gru_packed)(int64_t size);
  void (*gru_pack)(T* packed, const T* weights, const T* biases, int64_t size);
  void (*gru)(const GruJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*gru_backward)(const GruJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*gru_weights)(const GruJob<T>&, int64_t first, int64_t last);
  int64_t (*lstm_packed)(int64_t size);
  void (*lstm_pack)(T* packed, const T* weights, const T* biases, int64_t size);
  void (*lstm)(const LstmJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*lstm_backward)(const LstmJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*lstm_weights)(const LstmJob<T>&, int64_t first, int64_t last);
  int64_t outer_rows;
  void (*selective)(const SelectiveJob<T>&, int64_t first, int64_t last);
  // d_a [N, D] gets the sum over the environments of the range.
  void (*selective_backward)(const SelectiveJob<T>&, T* d_a, int64_t first, int64_t last);
  // Indexed by whether the delta rule writes. Ranges are of environments times heads, of which those that share a
  // gradient are taken together in the backward pass.
  void (*matrix[2])(const MatrixJob<T>&, int64_t first, int64_t last);
  void (*matrix_backward[2])(const MatrixJob<T>&, int64_t together, int64_t first, int64_t last);
  void (*conv)(const ConvJob<T>&, int64_t first, int64_t last);
  // sums [width + 1, D] get the gradients of the taps and of the bias over the environments of the range.
  void (*conv_backward)(const ConvJob<T>&, T* sums, int64_t first, int64_t last);
  // Numbers in a matrix packed for a wide result, or for a narrow one; at(k, n) = from[k * down + n * across].
  int64_t (*widening_packed)(int64_t narrow, int64_t wide);
  void (*pack_widening)(T* packed, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across);
  int64_t (*narrowing_packed)(int64_t narrow, int64_t wide);
  void (*pack_narrowing)(T* packed, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across);
  void (*narrow_linear)(const NarrowJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*narrow_linear_backward)(const NarrowJob<T>&, T* d_w, T* d_b, int64_t first, int64_t last);
  void (*normed_linear)(const NarrowJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*normed_linear_backward)(const NarrowJob<T>&, const T* packed, T* d_w, int64_t first, int64_t last);
  // Rows with something fused around a product; weights packed as for a wide result. sums get the weights' gradients.
  void (*gated_mlp)(const MlpJob<T>&, const T* up, const T* down, int64_t first, int64_t last);
  void (*gated_mlp_backward)(const MlpJob<T>&, const T* up, const T* down, T* sums, int64_t first, int64_t last);
  void (*rms_norm)(const NormJob<T>&, int64_t first, int64_t last);
  void (*rms_norm_backward)(const NormJob<T>&, T* d_gain, int64_t first, int64_t last);
  void (*gated_out[kGateKinds])(const OutJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*gated_out_backward[kGateKinds])(const OutJob<T>&, const T* packed, T* sums, int64_t first, int64_t last);
  void (*log_prob)(const LogProbJob<T>&, int64_t first, int64_t last);
  void (*surrogate)(const LossJob<T>&, double* sums, int64_t first, int64_t last);
};

struct Level {
  Table<float> of_float;
  Table<double> of_double;
};

}  // namespace memsuite
