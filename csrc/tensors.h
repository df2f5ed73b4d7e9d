// What the binding of every op needs: checked contiguous inputs, new outputs, float or double, half precision, threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

namespace memsuite {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

bool is_complex(ScalarType type) { return type == ScalarType::ComplexFloat || type == ScalarType::ComplexDouble; }

// Calls body(float{}) or body(double{}) by what a tensor is made of.
template <class Body>
auto by_type(const Tensor& like, const Body& body) {
  const ScalarType type = like.scalar_type();
  const bool single = type == ScalarType::Float || type == ScalarType::ComplexFloat;
  STD_TORCH_CHECK(single || type == ScalarType::Double || type == ScalarType::ComplexDouble,
                  "memsuite: the compiled ops take float32, float64 and their complex kinds");
  return single ? body(float{}) : body(double{});
}

// A contiguous tensor that is checked to be of the kind and shape that the loops will read.
struct Input {
  Tensor tensor;
  Input(const Tensor& given, ScalarType type, std::vector<int64_t> shape)
      : tensor(given.is_contiguous() ? given : torch::stable::contiguous(given)) {
    STD_TORCH_CHECK(given.scalar_type() == type, "memsuite: tensors of one op must be of one kind of number");
    STD_TORCH_CHECK(given.dim() == static_cast<int64_t>(shape.size()), "memsuite: wrong number of dimensions");
    for (size_t i = 0; i < shape.size(); ++i)
      STD_TORCH_CHECK(given.size(static_cast<int64_t>(i)) == shape[i], "memsuite: shapes do not fit together");
  }
  template <class T>
  operator const T*() const {
    return static_cast<const T*>(tensor.const_data_ptr());
  }
};

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

Tensor make(const Tensor& like, std::vector<int64_t> shape) { return torch::stable::new_empty(like, shape); }

template <class T>
struct Aligned {
  std::unique_ptr<T[]> memory;
  T* data;
  explicit Aligned(int64_t count) : memory(new T[count + 64 / sizeof(T)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory.get());
    data = reinterpret_cast<T*>((address + 63) / 64 * 64);
  }
};

// Shares [0, count) among torch's threads unless the whole is less work than starting them.
template <class Body>
void share(int64_t count, int64_t work_each, int64_t least, const Body& body) {
  const int64_t grain = std::max(least, 65536 / std::max<int64_t>(work_each, 1));
  torch::stable::parallel_for(0, count, grain, body);
}

// The rows of x, all but its last dimension taken as one.
int64_t rows_of(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) rows *= x.size(i);
  return rows;
}

std::vector<int64_t> shape_of(const Tensor& x, int64_t last) {
  std::vector<int64_t> shape;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) shape.push_back(x.size(i));
  shape.push_back(last);
  return shape;
}

std::vector<int64_t> leading(const Tensor& x) {
  std::vector<int64_t> shape = shape_of(x, 0);
  shape.pop_back();
  return shape;
}

// Sums over rows are made in as many parts as this, whatever the threads, so that their bits do not depend on them.
int64_t parts_of(int64_t rows) { return std::max<int64_t>(1, std::min<int64_t>(16, rows / 512)); }

// Calls body(part's sums, first row, last row) for every part, on all threads, then adds the parts up in order into out.
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

bool is_half(const Tensor& x) {
  return x.scalar_type() == ScalarType::Half || x.scalar_type() == ScalarType::BFloat16;
}

// An op that takes half precision too, by computing in float32 and rounding what it returns.
template <auto Op>
struct Widened;

template <class Result, class... Given, Result (*Op)(Given...)>
struct Widened<Op> {
  static Tensor wide(const Tensor& x) { return is_half(x) ? torch::stable::to(x, ScalarType::Float) : x; }
  static std::optional<Tensor> wide(const std::optional<Tensor>& x) { return x ? std::optional(wide(*x)) : x; }
  static double wide(double x) { return x; }
  static int64_t wide(int64_t x) { return x; }
  static Tensor narrow(const Tensor& x, ScalarType type) { return torch::stable::to(x, type); }
  template <class... Parts>
  static std::tuple<Parts...> narrow(const std::tuple<Parts...>& all, ScalarType type) {
    return std::apply([&](const auto&... x) { return std::make_tuple(narrow(x, type)...); }, all);
  }
  static Result call(Given... given) {
    const Tensor& like = std::get<0>(std::tie(given...));
    return is_half(like) ? narrow(Op(wide(given)...), like.scalar_type()) : Op(given...);
  }
};

constexpr int64_t kBlock = 16;  // steps between the selective scan's saved states; STEPS in memsuite/ops, where opcheck
                                // compares the shapes

struct Shape {
  int64_t T, B, D;
  explicit Shape(const Tensor& x) : T(x.size(0)), B(x.size(1)), D(x.size(2)) {}
  std::vector<int64_t> all() const { return {T, B, D}; }
  std::vector<int64_t> gates(int64_t n) const { return {T, B, n * D}; }
  std::vector<int64_t> rows() const { return {T, B}; }
  std::vector<int64_t> state() const { return {B, D}; }
};

}  // namespace
}  // namespace memsuite
