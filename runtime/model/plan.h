// What a model is and costs to run: plain arithmetic, for `trireme inspect`.
#pragma once

#include <cstdint>

#include "runtime/model/decoder_spec.h"
#include "runtime/model/kv_storage.h"
#include "runtime/weights/checkpoint.h"

namespace trireme {

// Weights of the model, tied ones once.
int64_t CountParameters(const DecoderSpec& spec);

// Bytes of weights that computing one token of one sequence reads, as they are in the file: every
// tensor of the model, but of an embedding that is not the head, too, one row.
// Precondition: Decoder::CheckTensors has accepted the checkpoint.
int64_t DecodeWeightBytes(const DecoderSpec& spec, const Checkpoint& checkpoint);

// Bytes of the KV cache that computing a token reads when `num_tokens` stand before it.
int64_t DecodeKvBytes(const DecoderSpec& spec, const KvShape& kv, int64_t num_tokens);

}  // namespace trireme
