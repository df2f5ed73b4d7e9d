// What the kernels offer to their binding: functions that put one op on a stream. No torch and no CUDA headers here.
//
// Jobs are those of the CPU loops (../cpu/table.h), their pointers in device memory. Everything returns a CUDA error
// code, 0 for none. These kernels have been compiled, and run in a host emulation; they have not yet run on a GPU.
#pragma once

#include "../cpu/table.h"

namespace memsuite::cuda {

const char* error_text(int code);

template <class T>
int pscan(const PscanJob<T>& job, void* stream);
template <class T>
int pscan_backward(const PscanJob<T>& job, void* stream);

template <class T>
int diagonal(const DiagonalJob<T>& job, bool complex, void* stream);
// With a constant decay job.d_a is scratch [B, D], and its sum over environments goes to `total` [D].
template <class T>
int diagonal_backward(const DiagonalJob<T>& job, T* total, bool complex, void* stream);

// `weights` are transposed: [D, 3 D], so that neighbouring threads read neighbouring numbers.
template <class T>
int gru(const GruJob<T>& job, void* stream);
// Fills d_gi, d_gn, d_h0 and `previous` [T, B, D], the states before each step; the weights' gradient is then a matrix
// product, which is not made here. `weights` are as given: [3 D, D].
template <class T>
int gru_backward(const GruJob<T>& job, T* previous, void* stream);

template <class T>
int selective(const SelectiveJob<T>& job, void* stream);

constexpr int64_t kSelectiveChannels = 64;  // of a block of threads

// Scratch of the backward pass: [B, D, N] for d_a, and [2, parts, T, B, N] for d_b and d_c where parts, the number of
// blocks of channels, is more than one.
template <class T>
struct SelectiveSums {
  T *d_a_each, *d_b_parts, *d_c_parts;
  T* d_a;
};
template <class T>
int selective_backward(const SelectiveJob<T>& job, const SelectiveSums<T>& sums, void* stream);

}  // namespace memsuite::cuda
