// Reads tokenizer.json into a TokenizerSpec: the parts of tokenizer_json*.cc. Only forms whose
// meaning we reproduce exactly are accepted; everything else is refused by its path.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/text/json_fields.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

class TokenizerJsonReader {
 public:
  explicit TokenizerJsonReader(const boost::json::value* document) : root_(document, "") {}

  // INVALID_ARGUMENT names the path of what is missing, malformed or not supported.
  absl::Status Read();
  TokenizerSpec& spec() { return spec_; }

 private:
  // tokenizer_json_model.cc
  absl::Status ReadModel();
  absl::Status ReadVocab(const JsonNode& vocab);
  absl::Status ReadMerges(const JsonNode& merges);
  absl::Status ReadAddedTokens();
  absl::Status PlaceToken(const JsonNode& where, int64_t id, std::string_view text);

  // tokenizer_json_pipeline.cc
  absl::Status ReadNormalizer();
  absl::Status ReadPreTokenizer();
  absl::Status ReadPreTokenizerStep(const JsonNode& step, bool is_first, bool* splits_digits);
  absl::Status ReadByteLevel(const JsonNode& step, bool is_first, bool splits_digits);
  absl::Status ReadSplit(const JsonNode& step);
  absl::Status ReadMetaspace(const JsonNode& step);
  absl::StatusOr<TokenizerSpec::SpacePrefix> ReadPrependScheme(const JsonNode& step);
  absl::Status ReadDecoder();
  absl::Status ReadPostProcessor();
  absl::Status ReadTemplate(const JsonNode& step);

  const JsonNode root_;
  TokenizerSpec spec_;
  int64_t num_placed_ = 0;  // non-empty entries of spec_.tokens
  bool has_byte_level_ = false, has_metaspace_ = false;
  std::optional<PreTokenizer> pattern_;  // of a Split step
};

// The "type" of a component, and the refusal of one.
absl::StatusOr<std::string_view> TypeOf(const JsonNode& node);
absl::Status UnsupportedType(const JsonNode& node, std::string_view type);

}  // namespace trireme
