// The forward pass written down a second time, in double precision and without batches, caches or
// kernels: the oracle for logits. Slow; for tiny models.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/weights/checkpoint.h"

namespace trireme::fakes {

// Logits [vocab_size] after each of `tokens`, which stand at positions 0, 1, ... A missing tensor
// stops the program.
std::vector<std::vector<double>> ReferenceLogits(const DecoderSpec& spec,
                                                 const Checkpoint& checkpoint,
                                                 absl::Span<const TokenId> tokens);

}  // namespace trireme::fakes
