// Rotary embedding: what a checkpoint says about it, and the frequencies that follow.
#pragma once

#include <boost/json/object.hpp>
#include <vector>

#include "runtime/model/decoder_spec.h"
#include "runtime/model/field_reader.h"

namespace trireme {

// From config.json: `rope_theta` with `rope_scaling`, or (Transformers 5) `rope_parameters` with
// the theta inside. Types default, linear and llama3; others, and fields that no such type has, are
// refused. Errors go to `fields`.
RopeSpec ReadRopeFromConfig(const boost::json::object& config, FieldReader* fields);

// From GGUF: rope.* keys and the tensor rope_freqs.weight. Pairs are interleaved.
RopeSpec ReadRopeFromGguf(const GgufFile& file, int head_dim, FieldReader* fields);

// [rotary_dim / 2], scaling applied: theta^(-2i / rotary_dim); linear: divided by the factor;
// llama3: wavelengths above original_context / low_freq_factor divided by the factor, those below
// original_context / high_freq_factor kept, between them a blend (source: Llama 3.1's reference
// code, Transformers' modeling_rope_utils).
std::vector<float> InverseFrequencies(const RopeSpec& rope, int head_dim);

}  // namespace trireme
