// The loops of every op for one instruction set; compiled once per instruction set, with MEMSUITE_LEVEL as its name.
//
// They are one file because they share code, which the compiler then instantiates only once.
#include "diagonal_scan/loops.h"

#include "common/packing_loops.h"
#include "elman_scan/loops.h"
#include "gated_mlp/loops.h"
#include "gated_out/loops.h"
#include "gru_scan/loops.h"
#include "log_prob/loops.h"
#include "lstm_scan/loops.h"
#include "matrix_scan/loops.h"
#include "matrix_step/loops.h"
#include "narrow_linear/loops.h"
#include "normed_linear/loops.h"
#include "pscan/loops.h"
#include "rms_norm/loops.h"
#include "selective_scan/loops.h"
#include "short_conv/loops.h"
#include "slstm_scan/loops.h"
#include "surrogate/loops.h"
