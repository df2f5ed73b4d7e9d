// How the CPU bindings of recurrences with several gates divide their work among threads.
#pragma once

#include "common/gated_job.h"
#include "common/packed.h"

namespace memsuite {

// Runs the forward pass of a job with this number of gates. Each thread packs its own copy of the weights, because it
// reads all of them at every step.
template <class T, template <class> class Job>
void gated_forward(const Job<T>& job, int64_t gates) {
  const auto& loops = kernels<GatedKernels<Job<T>, T>>();
  share(job.batch, gates * job.steps * job.size * job.size, 4, [&](int64_t first, int64_t last) {
    const Aligned<T> packed(loops.packed_size(job.size));
    loops.pack(packed.data, job.weights, job.biases, job.size);
    loops.forward(job, packed.data, first, last);
  });
}

// Runs the backward pass: first through time, then the gradient of the weights.
template <class T, template <class> class Job>
void gated_backward(const Job<T>& job, int64_t gates) {
  const auto& loops = kernels<GatedKernels<Job<T>, T>>();
  const int64_t rows = gates * job.size, work = rows * job.steps * job.size;
  const int64_t tiles = (rows + loops.outer_rows - 1) / loops.outer_rows;
  share(job.batch, work, 4, [&](int64_t first, int64_t last) {
    const Packed<T> packed(job.weights, rows, job.size, false);
    loops.backward(job, packed.data, first, last);
  });
  if (tiles == 0) return;  // no units, no weights
  share(tiles, work * job.batch / tiles, 1, [&](int64_t first, int64_t last) { loops.weights(job, first, last); });
}

}  // namespace memsuite
