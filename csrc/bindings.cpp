// The bindings of every op for CPU tensors.
//
// They are one translation unit because the compiler takes longer to read torch's headers than to compile a binding. So
// two bindings may have functions of the same name only if these take different jobs.
#include "common/cpu.cpp"
#include "diagonal_scan/cpu.cpp"
#include "elman_scan/cpu.cpp"
#include "gated_mlp/cpu.cpp"
#include "gated_out/cpu.cpp"
#include "gru_scan/cpu.cpp"
#include "log_prob/cpu.cpp"
#include "lstm_scan/cpu.cpp"
#include "matrix_scan/cpu.cpp"
#include "matrix_step/cpu.cpp"
#include "narrow_linear/cpu.cpp"
#include "normed_linear/cpu.cpp"
#include "pscan/cpu.cpp"
#include "rms_norm/cpu.cpp"
#include "selective_scan/cpu.cpp"
#include "short_conv/cpu.cpp"
#include "slstm_scan/cpu.cpp"
#include "surrogate/cpu.cpp"
