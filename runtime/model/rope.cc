#include "runtime/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <set>
#include <string>

#include "runtime/base/quant_formats.h"
#include "runtime/base/strings.h"
#include "runtime/model/family.h"

namespace trireme {
namespace {

// Every field that an object of this type may have; another one would go unheard.
void RefuseUnknownFields(const boost::json::object& object, std::string_view type,
                         FieldReader* fields) {
  std::set<std::string_view> known = {"rope_theta", "rope_type", "type", "partial_rotary_factor"};
  if (type == "linear" || type == "llama3") known.insert("factor");
  if (type == "llama3") {
    known.insert({"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
  }
  for (const auto& [key, value] : object) {
    const std::string_view name(key.data(), key.size());
    if (!known.contains(name))
      fields->Fail(name, StrCat("not supported with type ", Printable(type)));
  }
}

// `object`: the value of rope_scaling or rope_parameters.
RopeSpec ReadRopeObject(const boost::json::object& object, double theta, FieldReader* fields) {
  RopeSpec rope;
  const std::string type = fields->String("rope_type", fields->String("type", "default"));
  rope.theta = fields->Positive("rope_theta", theta);
  fields->Unsupported("partial_rotary_factor", 1.0);
  if (type == "linear") {
    rope.scaling = RopeSpec::Scaling::kLinear;
    rope.factor = fields->Positive("factor");
  } else if (type == "llama3") {
    rope.scaling = RopeSpec::Scaling::kLlama3;
    rope.factor = fields->Positive("factor");
    rope.low_freq_factor = fields->Positive("low_freq_factor");
    rope.high_freq_factor = fields->Positive("high_freq_factor");
    rope.original_context = fields->Size("original_max_position_embeddings", kMaxContext);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      fields->Fail("high_freq_factor", "must be above low_freq_factor");
    }
  } else if (type != "default") {
    fields->Fail("rope_type",
                 StrCat(Printable(type), " is not supported (default, linear, llama3 are)"));
  }
  RefuseUnknownFields(object, type, fields);
  return rope;
}

}  // namespace

RopeSpec ReadRopeFromConfig(const boost::json::object& config, FieldReader* fields) {
  RopeSpec plain;
  plain.theta = fields->Positive("rope_theta", 10000.0);
  std::optional<RopeSpec> rope;
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    if (!fields->Has(key)) continue;
    const boost::json::object* object = config.at({key.data(), key.size()}).if_object();
    if (object == nullptr) {
      fields->Fail(key, "an object is wanted");
      return plain;
    }
    const JsonFields source(*object);
    FieldReader inner(source, StrCat(key, "."));
    const RopeSpec read = ReadRopeObject(*object, plain.theta, &inner);
    fields->Fail(inner.status());
    if (rope && *rope != read) fields->Fail(key, "contradicts rope_parameters");
    rope = read;
  }
  return rope.value_or(plain);
}

RopeSpec ReadRopeFromGguf(const GgufFile& file, int head_dim, FieldReader* fields) {
  RopeSpec rope;
  rope.interleaved = true;
  rope.theta = fields->Positive("rope.freq_base", 10000.0);
  rope.rotary_dim = fields->Size("rope.dimension_count", head_dim, head_dim);
  const std::string type = fields->String("rope.scaling.type", "none");
  if (type == "linear") {
    rope.scaling = RopeSpec::Scaling::kLinear;
    rope.factor = fields->Positive("rope.scaling.factor");
  } else if (type != "none") {
    fields->Fail("rope.scaling.type",
                 StrCat(Printable(type), " is not supported (none, linear are)"));
  }
  fields->Unsupported("rope.scale_linear", 1.0);  // of files older than rope.scaling.*
  const absl::StatusOr<TensorView> divisors = file.Find("rope_freqs.weight");
  if (!divisors.ok()) return rope;
  const int64_t count = rope.rotary_dim / 2;
  if (divisors->dtype != DType::kF32 || divisors->shape.size() != 1 || divisors->cols() != count) {
    fields->Fail(absl::InvalidArgumentError(
        StrCat("tensor rope_freqs.weight: F32 [", count, "] is wanted")));
    return rope;
  }
  rope.frequency_divisors.resize(static_cast<size_t>(count));
  DequantizeRow(DType::kF32, divisors->data, count, rope.frequency_divisors.data());
  for (const float divisor : rope.frequency_divisors) {
    if (!std::isfinite(divisor) || divisor <= 0) {
      fields->Fail(absl::InvalidArgumentError("tensor rope_freqs.weight: values must be above 0"));
    }
  }
  return rope;
}

std::vector<float> InverseFrequencies(const RopeSpec& rope, int head_dim) {
  const int rotary_dim = rope.rotary_dim == 0 ? head_dim : rope.rotary_dim;
  std::vector<float> frequencies;
  for (int i = 0; i < rotary_dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * i / rotary_dim);
    if (rope.scaling == RopeSpec::Scaling::kLinear) {
      frequency /= rope.factor;
    } else if (rope.scaling == RopeSpec::Scaling::kLlama3) {
      // How many turns the pair makes over the original context decides; 0: scaled, 1: kept.
      const double turns =
          static_cast<double>(rope.original_context) * frequency / (2 * std::numbers::pi);
      const double kept = std::clamp(
          (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0,
          1.0);
      frequency *= kept + (1 - kept) / rope.factor;
    }
    if (!rope.frequency_divisors.empty()) {
      frequency /= static_cast<double>(rope.frequency_divisors[static_cast<size_t>(i)]);
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

}  // namespace trireme
