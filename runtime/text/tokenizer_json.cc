// TokenizerSpec from tokenizer.json, the format of the Hugging Face tokenizers library, and what
// tokenizer_config.json adds to it.
#include <algorithm>
#include <boost/json.hpp>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/end_tokens.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_json_reader.h"

namespace trireme {
namespace {

namespace json = boost::json;

constexpr int kMaxDepth = 32;

absl::StatusOr<json::value> Parse(std::string_view text, std::string_view file) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code error;
  json::value document =
      json::parse(json::string_view(text.data(), text.size()), error, json::storage_ptr(), options);
  if (error) return absl::InvalidArgumentError(StrCat(file, ": ", error.message()));
  return document;
}

// A token of tokenizer_config.json: its text, or an object with the text in "content".
absl::Status ReadConfigToken(const JsonNode& node, const TokenizerSpec& spec,
                             std::optional<TokenId>* id) {
  if (node.absent()) return absl::OkStatus();
  TRIREME_ASSIGN_OR_RETURN(const std::string_view text,
                           (node.is_object() ? node.Member("content") : node).AsString());
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), text);
  if (text.empty() || found == spec.tokens.end()) return node.Error("is not in the vocabulary");
  *id = static_cast<TokenId>(found - spec.tokens.begin());
  return absl::OkStatus();
}

absl::Status ReadConfig(const JsonNode& config, TokenizerSpec* spec) {
  TRIREME_RETURN_IF_ERROR(config.AsObject().status());
  const std::optional<TokenId> put_before = spec->bos, put_behind = spec->eos;
  const JsonNode bos = config.Member("bos_token"), eos = config.Member("eos_token");
  TRIREME_RETURN_IF_ERROR(ReadConfigToken(bos, *spec, &spec->bos));
  TRIREME_RETURN_IF_ERROR(ReadConfigToken(eos, *spec, &spec->eos));
  if (put_before && spec->bos != put_before) return bos.Error("the post_processor has another");
  if (put_behind && spec->eos != put_behind) return eos.Error("the post_processor has another");
  TRIREME_RETURN_IF_ERROR(ReadConfigToken(config.Member("pad_token"), *spec, &spec->pad));
  const JsonNode add_bos = config.Member("add_bos_token"), add_eos = config.Member("add_eos_token");
  TRIREME_ASSIGN_OR_RETURN(spec->add_bos, add_bos.AsBool(spec->add_bos));
  TRIREME_ASSIGN_OR_RETURN(spec->add_eos, add_eos.AsBool(spec->add_eos));
  if (spec->add_bos && !spec->bos) return add_bos.Error("there is no bos_token");
  if (spec->add_eos && !spec->eos) return add_eos.Error("there is no eos_token");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string_view> TypeOf(const JsonNode& node) {
  return node.Member("type").AsString();
}

absl::Status UnsupportedType(const JsonNode& node, std::string_view type) {
  return node.Member("type").Error(StrCat("'", Printable(type), "' is not supported"));
}

absl::Status TokenizerJsonReader::Read() {
  TRIREME_RETURN_IF_ERROR(root_.AsObject().status());
  TRIREME_RETURN_IF_ERROR(ReadModel());
  TRIREME_RETURN_IF_ERROR(ReadAddedTokens());
  TRIREME_RETURN_IF_ERROR(ReadNormalizer());
  TRIREME_RETURN_IF_ERROR(ReadPreTokenizer());
  TRIREME_RETURN_IF_ERROR(ReadDecoder());
  return ReadPostProcessor();
}

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view tokenizer_json,
                                                 std::string_view tokenizer_config_json) {
  TRIREME_ASSIGN_OR_RETURN(const json::value document, Parse(tokenizer_json, "tokenizer.json"));
  TokenizerJsonReader reader(&document);
  TRIREME_RETURN_IF_ERROR(Annotate(reader.Read(), "tokenizer.json"));
  TokenizerSpec spec = std::move(reader.spec());
  if (!tokenizer_config_json.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const json::value config,
                             Parse(tokenizer_config_json, "tokenizer_config.json"));
    TRIREME_RETURN_IF_ERROR(
        Annotate(ReadConfig(JsonNode(&config, ""), &spec), "tokenizer_config.json"));
  }
  CollectEndTokens(&spec);
  return spec;
}

}  // namespace trireme
