// Packs weights into blocks of columns; a block is as wide as the vectors in a tile of a product.
#pragma once

#include "common/matmul.h"
#include "common/offer.h"
#include "common/packing.h"
#include "common/pairs.h"

namespace memsuite::MEMSUITE_LEVEL {

// out[block][k][V * lanes] of the matrix at(k, n) = from[k * down + n * across], zeros beyond its width.
template <class T, int V>
void pack_strided(T* out, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
  constexpr int64_t block = V * Simd<T>::lanes;
  for (int64_t begin = 0; begin < width; begin += block)
    for (int64_t k = 0; k < depth; ++k, out += block) {
      if (across == 1 && begin + block <= width) {
        memcpy(out, from + k * down + begin, sizeof(T) * block);
        continue;
      }
      for (int64_t i = 0; i < block; ++i) out[i] = begin + i < width ? from[k * down + (begin + i) * across] : T(0);
    }
}

template <class T>
void pack_map(T* out, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
#if defined(MEMSUITE_PAIRS)
  if constexpr (sizeof(T) == 4)
    if (bfloat16_products) return pack_pairs(reinterpret_cast<uint32_t*>(out), from, depth, width, down, across);
#endif
  pack_strided<T, 2>(out, from, depth, width, down, across);
}

template <class T>
int64_t widening_packed_size(int64_t narrow, int64_t wide) {
  return narrow * round_up<2 * Simd<T>::lanes>(wide);
}

template <class T>
int64_t narrowing_packed_size(int64_t narrow, int64_t wide) {
  return wide * round_up<Simd<T>::lanes>(narrow);
}

template <class T>
struct Offer<PackingKernels<T>> {
  static constexpr PackingKernels<T> all() {
    PackingKernels<T> all{};
    all.widening_size = widening_packed_size<T>;
    all.pack_widening = pack_strided<T, 2>;
    all.pack_map = pack_map<T>;
    all.narrowing_size = narrowing_packed_size<T>;
    all.pack_narrowing = pack_strided<T, 1>;
    return all;
  }
};
template const PackingKernels<float>& offered();
template const PackingKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
