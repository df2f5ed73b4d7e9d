// Needed by every binding: checked contiguous inputs, new outputs, float or double, and half precision.
//
// Bindings are written in LibTorch's stable ABI, so that one library serves every torch from 2.10 on. Schemas, fakes
// and autograd are in memsuite/ops; a registered binding replaces the PyTorch reference there.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace memsuite {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline bool is_complex(ScalarType type) {
  return type == ScalarType::ComplexFloat || type == ScalarType::ComplexDouble;
}

// Calls body(float{}) or body(double{}), depending on the dtype of a tensor; of Complex numbers only where the op says
// so.
template <bool Complex = false, class Body>
auto by_type(const Tensor& like, const Body& body) {
  const ScalarType type = like.scalar_type();
  STD_TORCH_CHECK(Complex || !is_complex(type), "memsuite: this op takes no complex numbers");
  const bool single = type == ScalarType::Float || type == ScalarType::ComplexFloat;
  STD_TORCH_CHECK(single || type == ScalarType::Double || type == ScalarType::ComplexDouble,
                  "memsuite: the compiled ops take float32 and float64");
  return single ? body(float{}) : body(double{});
}

// A contiguous tensor, checked to have the dtype and shape that the loops read. It converts to the pointer type of a
// job.
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

// An input of a backward pass that the forward pass wrote. A job serves both passes, so its pointer must be writable.
struct Saved : Input {
  using Input::Input;
  template <class T>
  operator T*() const {
    return static_cast<T*>(const_cast<void*>(tensor.const_data_ptr()));
  }
};

// A new contiguous tensor with the dtype and the device of another. It converts to the pointer type of a job.
struct Output {
  Tensor tensor;
  Output(const Tensor& like, std::vector<int64_t> shape) : tensor(torch::stable::new_empty(like, shape)) {}
  template <class T>
  operator T*() const {
    return static_cast<T*>(tensor.mutable_data_ptr());
  }
};

// The sizes of a scan's tensor [T, B, D], and the shapes of the tensors that belong to it.
struct Shape {
  int64_t T, B, D;
  explicit Shape(const Tensor& x) : T(x.size(0)), B(x.size(1)), D(x.size(2)) {}
  std::vector<int64_t> all() const { return {T, B, D}; }
  std::vector<int64_t> gates(int64_t n) const { return {T, B, n * D}; }
  std::vector<int64_t> rows() const { return {T, B}; }
  std::vector<int64_t> state() const { return {B, D}; }
};

inline int64_t last_of(const Tensor& x) { return x.size(x.dim() - 1); }

// The number of rows of x, with all dimensions except the last flattened.
inline int64_t rows_of(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) rows *= x.size(i);
  return rows;
}

// The shape of x without its last dimension.
inline std::vector<int64_t> leading(const Tensor& x) {
  std::vector<int64_t> shape;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) shape.push_back(x.size(i));
  return shape;
}

// The shape of x with another last dimension.
inline std::vector<int64_t> shape_of(const Tensor& x, int64_t last) {
  std::vector<int64_t> shape = leading(x);
  shape.push_back(last);
  return shape;
}

inline bool is_half(const Tensor& x) {
  return x.scalar_type() == ScalarType::Half || x.scalar_type() == ScalarType::BFloat16;
}

// An op that also takes half precision, by computing in float32 and rounding its results.
//
// Like names for each result the argument, counted from 0, whose dtype it has, as the fake of the op says: weights may
// have more digits than what they are applied to. Without any, and for an argument that is left out, it is that of the
// first one.
template <auto Op, size_t... Like>
struct Widened;

template <class Result, class... Given, Result (*Op)(Given...), size_t... Like>
struct Widened<Op, Like...> {
  static Tensor wide(const Tensor& x) { return is_half(x) ? torch::stable::to(x, ScalarType::Float) : x; }
  static std::optional<Tensor> wide(const std::optional<Tensor>& x) { return x ? std::optional(wide(*x)) : x; }
  static double wide(double x) { return x; }
  static std::optional<double> wide(std::optional<double> x) { return x; }
  static int64_t wide(int64_t x) { return x; }
  static bool wide(bool x) { return x; }
  static ScalarType type_of(const Tensor& x, ScalarType) { return x.scalar_type(); }
  static ScalarType type_of(const std::optional<Tensor>& x, ScalarType usual) { return x ? x->scalar_type() : usual; }
  static Tensor narrow(const Tensor& x, const std::array<ScalarType, 1>& types) {
    return torch::stable::to(x, types[0]);
  }
  template <class... Parts, size_t... I>
  static std::tuple<Parts...> each(const std::tuple<Parts...>& all,
                                   const std::array<ScalarType, sizeof...(Parts)>& types, std::index_sequence<I...>) {
    return std::make_tuple(torch::stable::to(std::get<I>(all), types[I])...);
  }
  template <class... Parts>
  static std::tuple<Parts...> narrow(const std::tuple<Parts...>& all,
                                     const std::array<ScalarType, sizeof...(Parts)>& types) {
    return each(all, types, std::index_sequence_for<Parts...>{});
  }
  template <class R>
  struct Count {
    static constexpr size_t value = 1;
  };
  template <class... Parts>
  struct Count<std::tuple<Parts...>> {
    static constexpr size_t value = sizeof...(Parts);
  };
  static Result call(Given... given) {
    const auto all = std::tie(given...);
    const ScalarType usual = std::get<0>(all).scalar_type();
    if (!is_half(std::get<0>(all))) return Op(given...);
    constexpr size_t results = Count<Result>::value;
    static_assert(sizeof...(Like) == 0 || sizeof...(Like) == results, "an argument for each result, or for none");
    std::array<ScalarType, results> types;
    types.fill(usual);
    if constexpr (sizeof...(Like)) types = {type_of(std::get<Like>(all), usual)...};
    return narrow(Op(wide(given)...), types);
  }
};

}  // namespace memsuite
