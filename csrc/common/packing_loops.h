// Packs weights into blocks of columns; a block is as wide as the vectors in a tile of a product.
#pragma once

#include "common/forms.h"
#include "common/offer.h"
#include "common/packing.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
void pack_map(T* out, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across) {
  in_form<T>([&](auto form) { form.pack(out, from, depth, width, down, across); });
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
