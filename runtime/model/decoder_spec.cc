#include "runtime/model/decoder_spec.h"

#include <boost/json.hpp>

#include "runtime/base/strings.h"
#include "runtime/model/family.h"
#include "runtime/weights/strict_json.h"

namespace trireme {
namespace {

constexpr const ModelFamily* kFamilies[] = {&kLlamaFamily, &kMistralFamily};

// What no single field can say.
absl::Status CheckConsistent(const DecoderSpec& spec) {
  const auto error = [](const auto&... what) {
    return absl::InvalidArgumentError(StrCat(what...));
  };
  if (spec.num_heads % spec.num_kv_heads != 0) {
    return error("number of heads ", spec.num_heads,
                 " is not a multiple of that of key-value heads ", spec.num_kv_heads);
  }
  const int rotary_dim = spec.rope.rotary_dim == 0 ? spec.head_dim : spec.rope.rotary_dim;
  if (spec.head_dim % 2 != 0 || rotary_dim % 2 != 0 || rotary_dim > spec.head_dim) {
    return error("head dimension ", spec.head_dim, " with rotary dimension ", rotary_dim,
                 ": both must be even, the latter not larger");
  }
  return absl::OkStatus();
}

absl::StatusOr<DecoderSpec> Checked(absl::StatusOr<DecoderSpec> spec) {
  if (!spec.ok()) return spec;
  if (absl::Status status = CheckConsistent(*spec); !status.ok()) return status;
  return spec;
}

absl::Status UnknownArchitecture(std::string_view field, std::string_view name) {
  return absl::InvalidArgumentError(StrCat(field, ": ", Printable(name), " is not supported"));
}

}  // namespace

absl::StatusOr<DecoderSpec> DecoderSpecFromConfigJson(std::string_view config_json) {
  const absl::StatusOr<boost::json::object> config = ParseStrictJson(config_json);
  if (!config.ok()) return config.status();
  const boost::json::value* names = config->if_contains("architectures");
  const boost::json::array* array = names != nullptr ? names->if_array() : nullptr;
  if (array == nullptr || array->size() != 1 || !array->front().is_string()) {
    return absl::InvalidArgumentError("architectures: an array of one string is wanted");
  }
  const boost::json::string& text = array->front().get_string();
  const std::string_view name(text.data(), text.size());
  for (const ModelFamily* family : kFamilies) {
    if (!name.empty() && name == family->hf_architecture)
      return Checked(family->from_config(*config));
  }
  return UnknownArchitecture("architectures", name);
}

absl::StatusOr<DecoderSpec> DecoderSpecFromGguf(const GgufFile& file) {
  if (file.Int("split.count").value_or(1) > 1) {
    return absl::InvalidArgumentError("split.count: GGUF in several files is not supported");
  }
  const std::string name = file.String("general.architecture").value_or("");
  for (const ModelFamily* family : kFamilies) {
    if (!name.empty() && name == family->gguf_architecture) return Checked(family->from_gguf(file));
  }
  return UnknownArchitecture("general.architecture", name);
}

}  // namespace trireme
