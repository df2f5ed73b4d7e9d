// How a binding divides its work among torch's threads, and sums with the same bits for any number of threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>

namespace memsuite {

// Uninitialised memory for one call, aligned to a cache line.
template <class T>
struct Aligned {
  std::unique_ptr<T[]> memory;
  T* data;
  explicit Aligned(int64_t count) : memory(new T[static_cast<size_t>(count) + 64 / sizeof(T)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory.get());
    data = reinterpret_cast<T*>((address + 63) / 64 * 64);
  }
};

// Divides [0, count) among torch's threads, unless the whole is less work than starting them. A thread gets at least
// `least` elements. Work is counted in multiply-adds.
template <class Body>
void share(int64_t count, int64_t work_each, int64_t least, const Body& body) {
  const int64_t grain = std::max(least, 65536 / std::max<int64_t>(work_each, 1));
  torch::stable::parallel_for(0, count, grain, body);
}

// Sums over rows have this number of parts for any number of threads, so that their bits do not depend on it.
inline int64_t parts_of(int64_t rows) { return std::max<int64_t>(1, std::min<int64_t>(16, rows / 512)); }

// Calls body(sums of the part, first row, last row) for every part, on all threads, then adds the parts up in order
// into `out`, which holds `size` numbers.
template <class T, class Body>
void in_parts(T* out, int64_t size, int64_t rows, int64_t work_each, const Body& body) {
  const int64_t parts = parts_of(rows);
  const Aligned<T> others((parts - 1) * size);
  const auto sums = [&](int64_t p) { return p == 0 ? out : others.data + (p - 1) * size; };
  share(parts, work_each * rows / parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) body(sums(p), p * rows / parts, (p + 1) * rows / parts);
  });
  for (int64_t p = 1; p < parts; ++p)
    for (int64_t i = 0; i < size; ++i) out[i] += sums(p)[i];
}

}  // namespace memsuite
