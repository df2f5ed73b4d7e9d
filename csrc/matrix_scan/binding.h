// The arguments of the decay and of the rule on CPU tensors, for the recurrence and for one step of it.
#pragma once

#include "common/tensors.h"
#include "matrix_scan/rule.h"

namespace memsuite {

// Which loop runs, and the shapes of the gradients: those of the arguments, and nothing for an argument that is
// missing.
struct MatrixRule {
  const bool channels;
  const Rule rule;
  const std::vector<int64_t> decays, strengths, edits;
  const Input decay, beta, erase, address;

  // of_head is the shape of one number for each head, of_keys that of one for each channel of its keys.
  MatrixRule(const std::vector<int64_t>& of_head, const std::vector<int64_t>& of_keys, const Tensor& log_decay,
             const std::optional<Tensor>& strength, const std::optional<Tensor>& from, const std::optional<Tensor>& at,
             ScalarType type)
      : channels(log_decay.dim() == static_cast<int64_t>(of_keys.size())),
        rule(strength.has_value() ? Rule::kDelta
             : from.has_value()   ? Rule::kEdit
                                  : Rule::kSum),
        decays(channels ? of_keys : of_head),
        strengths(strength.has_value() ? of_head : std::vector<int64_t>{0}),
        edits(from.has_value() ? of_keys : std::vector<int64_t>{0}),
        decay(log_decay, type, decays),
        beta(strength.value_or(log_decay), type, strength.has_value() ? of_head : decays),
        erase(from.value_or(log_decay), type, from.has_value() ? of_keys : decays),
        address(at.value_or(log_decay), type, at.has_value() ? of_keys : decays) {
    STD_TORCH_CHECK(from.has_value() == at.has_value() && !(strength.has_value() && from.has_value()),
                    "memsuite: a matrix state takes beta, or erase and address, or neither");
  }

  template <class Job>
  void set(Job& job) const {
    job.log_decay = decay;
    if (rule == Rule::kDelta) job.beta = beta;
    if (rule == Rule::kEdit) job.erase = erase, job.address = address;
  }
};

}  // namespace memsuite
