// The loops of every op for one instruction set; compiled once for each, with MEMSUITE_LEVEL as its name.
#include "categorical.h"
#include "conv.h"
#include "gru.h"
#include "lstm.h"
#include "matrix_back.h"
#include "mlp.h"
#include "narrow.h"
#include "norms.h"
#include "scans.h"
#include "selective.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
constexpr Table<T> make_table() {
  return {
      pscan_forward<T>,
      pscan_backward<T>,
      {diagonal_forward<T, false>, diagonal_forward<T, true>},
      {diagonal_backward<T, false>, diagonal_backward<T, true>},
      gates_packed_size<T, 3>,
      pack_gates<T, 3>,
      gru_forward<T>,
      gru_backward<T>,
      gru_weights<T>,
      gates_packed_size<T, 4>,
      pack_gates<T, 4>,
      lstm_forward<T>,
      lstm_backward<T>,
      lstm_weights<T>,
      kOuterRows,
      selective_forward<T>,
      selective_backward<T>,
      {matrix_forward<T, false>, matrix_forward<T, true>},
      {matrix_backward<T, false>, matrix_backward<T, true>},
      conv_forward<T>,
      conv_backward<T>,
      widening_packed_size<T>,
      pack_strided<T, 2>,
      narrowing_packed_size<T>,
      pack_strided<T, 1>,
      narrow_linear<T>,
      narrow_linear_backward<T>,
      normed_linear<T>,
      normed_linear_backward<T>,
      gated_mlp<T>,
      gated_mlp_backward<T>,
      rms_norm<T>,
      rms_norm_backward<T>,
      {gated_out<T, kNone>, gated_out<T, kSilu>, gated_out<T, kSigmoid>},
      {gated_out_backward<T, kNone>, gated_out_backward<T, kSilu>, gated_out_backward<T, kSigmoid>},
      log_prob<T>,
      surrogate<T>,
  };
}

extern const Level level;
const Level level = {make_table<float>(), make_table<double>()};

}  // namespace memsuite::MEMSUITE_LEVEL
