// "normalizer", "pre_tokenizer", "decoder" and "post_processor" of tokenizer.json: what happens to
// text before the merges and behind them.
#include <boost/json.hpp>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/bpe_model.h"
#include "runtime/text/tokenizer_json_reader.h"

namespace trireme {
namespace {

namespace json = boost::json;
using Kind = TokenizerSpec::Kind;
using SpacePrefix = TokenizerSpec::SpacePrefix;

struct KnownPattern {
  std::string_view regex;
  PreTokenizer kind;
};
constexpr KnownPattern kKnownPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     PreTokenizer::kGpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     PreTokenizer::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kLlama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kQwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kO200k},
};

// The steps of a component: the elements of a "Sequence", or the component itself; none when
// absent.
absl::StatusOr<std::vector<JsonNode>> Steps(const JsonNode& node, std::string_view list_key) {
  std::vector<JsonNode> steps;
  if (node.absent()) return steps;
  TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(node));
  if (type != "Sequence") {
    steps.push_back(node);
    return steps;
  }
  const JsonNode list = node.Member(list_key);
  TRIREME_ASSIGN_OR_RETURN(const json::array* array, list.AsArray());
  for (size_t i = 0; i < array->size(); ++i) steps.push_back(list.Element(i));
  return steps;
}

}  // namespace

absl::Status TokenizerJsonReader::ReadNormalizer() {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<JsonNode> steps,
                           Steps(root_.Member("normalizer"), "normalizers"));
  for (const JsonNode& step : steps) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    if (type == "NFC") {
      spec_.normalize_nfc = true;
    } else if (type == "Prepend") {
      TRIREME_ASSIGN_OR_RETURN(const std::string_view text, step.Member("prepend").AsString());
      if (text != kSpaceMark) return step.Member("prepend").Error("is not U+2581");
      spec_.space_prefix = SpacePrefix::kEvery;
    } else if (type == "Replace") {
      TRIREME_ASSIGN_OR_RETURN(const std::string_view from,
                               step.Member("pattern").Member("String").AsString());
      TRIREME_ASSIGN_OR_RETURN(const std::string_view to, step.Member("content").AsString());
      if (from != " " || to != kSpaceMark) return step.Error("does not replace spaces by U+2581");
      spec_.spaces_in_normalizer = true;
    } else {
      return UnsupportedType(step, type);
    }
  }
  if (spec_.space_prefix != SpacePrefix::kNever && !spec_.spaces_in_normalizer) {
    return root_.Member("normalizer").Error("Prepend without Replace is not supported");
  }
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadPreTokenizer() {
  const JsonNode node = root_.Member("pre_tokenizer");
  TRIREME_ASSIGN_OR_RETURN(const std::vector<JsonNode> steps, Steps(node, "pretokenizers"));
  bool splits_digits = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (has_byte_level_ || has_metaspace_) return steps[i].Error("must not follow the step before");
    TRIREME_RETURN_IF_ERROR(ReadPreTokenizerStep(steps[i], i == 0, &splits_digits));
  }
  if (has_byte_level_) {
    if (spec_.spaces_in_normalizer || spec_.byte_fallback) {
      return node.Error("ByteLevel together with U+2581 or byte fallback is not supported");
    }
    spec_.kind = Kind::kByteLevelBpe;
    return absl::OkStatus();
  }
  if (pattern_ || splits_digits) return node.Error("is not supported without ByteLevel");
  if (!spec_.spaces_in_normalizer && !has_metaspace_) {
    return node.Error("neither ByteLevel nor Metaspace, and no normalizer replaces spaces");
  }
  spec_.kind = Kind::kSentencePieceBpe;
  spec_.pre_tokenizer = PreTokenizer::kNone;
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadPreTokenizerStep(const JsonNode& step, bool is_first,
                                                       bool* splits_digits) {
  TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
  if (type == "ByteLevel") return ReadByteLevel(step, is_first, *splits_digits);
  if (!is_first) return UnsupportedType(step, type);
  if (type == "Metaspace") return ReadMetaspace(step);
  if (type == "Split") return ReadSplit(step);
  if (type == "Digits") {
    TRIREME_ASSIGN_OR_RETURN(*splits_digits, step.Member("individual_digits").AsBool(false));
    if (!*splits_digits) return step.Member("individual_digits").Error("must be true");
    return absl::OkStatus();
  }
  return UnsupportedType(step, type);
}

absl::Status TokenizerJsonReader::ReadByteLevel(const JsonNode& step, bool is_first,
                                                bool splits_digits) {
  has_byte_level_ = true;
  TRIREME_ASSIGN_OR_RETURN(const bool prefix, step.Member("add_prefix_space").AsBool(true));
  TRIREME_ASSIGN_OR_RETURN(const bool use_regex, step.Member("use_regex").AsBool(true));
  if (prefix) {
    if (!is_first) return step.Member("add_prefix_space").Error("must be false in this sequence");
    spec_.space_prefix = SpacePrefix::kEvery;
  }
  if (use_regex == pattern_.has_value() || (splits_digits && !use_regex)) {
    if (is_first) {  // only bytes: the text is one piece
      spec_.pre_tokenizer = PreTokenizer::kNone;
      return absl::OkStatus();
    }
    return step.Member("use_regex").Error("does not fit the step before");
  }
  if (pattern_) {
    spec_.pre_tokenizer = *pattern_;
  } else {
    spec_.pre_tokenizer = splits_digits ? PreTokenizer::kSmolLM : PreTokenizer::kGpt2;
  }
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadSplit(const JsonNode& step) {
  const JsonNode pattern = step.Member("pattern");
  TRIREME_ASSIGN_OR_RETURN(const std::string_view behavior, step.Member("behavior").AsString());
  TRIREME_ASSIGN_OR_RETURN(const bool invert, step.Member("invert").AsBool(false));
  if (!pattern.Member("String").absent()) {
    // Gemma splits at spaces, of which its normalizer has left none.
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, pattern.Member("String").AsString());
    if (text == " " && spec_.spaces_in_normalizer) return absl::OkStatus();
    return pattern.Error("is not supported");
  }
  TRIREME_ASSIGN_OR_RETURN(const std::string_view regex, pattern.Member("Regex").AsString());
  // The known patterns match all of any text, so keeping the matches and isolating them are the
  // same.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    return step.Member("behavior").Error("is not supported");
  }
  for (const KnownPattern& known : kKnownPatterns) {
    if (known.regex == regex) {
      pattern_ = known.kind;
      return absl::OkStatus();
    }
  }
  return pattern.Member("Regex").Error("is none of the known patterns");
}

absl::StatusOr<SpacePrefix> TokenizerJsonReader::ReadPrependScheme(const JsonNode& step) {
  TRIREME_ASSIGN_OR_RETURN(const std::string_view mark, step.Member("replacement").AsString());
  if (mark != kSpaceMark) return step.Member("replacement").Error("is not U+2581");
  const JsonNode scheme = step.Member("prepend_scheme");
  if (scheme.absent()) {  // files before prepend_scheme
    TRIREME_ASSIGN_OR_RETURN(const bool prefix, step.Member("add_prefix_space").AsBool(true));
    return prefix ? SpacePrefix::kEvery : SpacePrefix::kNever;
  }
  TRIREME_ASSIGN_OR_RETURN(const std::string_view name, scheme.AsString());
  if (name == "always") return SpacePrefix::kEvery;
  if (name == "first") return SpacePrefix::kFirst;
  if (name == "never") return SpacePrefix::kNever;
  return scheme.Error("not one of always, first, never");
}

absl::Status TokenizerJsonReader::ReadMetaspace(const JsonNode& step) {
  if (spec_.spaces_in_normalizer) {
    return step.Error("together with a normalizer that replaces spaces is not supported");
  }
  has_metaspace_ = true;
  TRIREME_ASSIGN_OR_RETURN(spec_.space_prefix, ReadPrependScheme(step));
  TRIREME_ASSIGN_OR_RETURN(spec_.split_at_spaces, step.Member("split").AsBool(true));
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadDecoder() {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<JsonNode> steps,
                           Steps(root_.Member("decoder"), "decoders"));
  for (const JsonNode& step : steps) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    if ((type == "ByteLevel") != has_byte_level_) {
      return step.Member("type").Error(
          StrCat("'", Printable(type), "' does not fit the pre_tokenizer"));
    }
    if (type == "ByteLevel" || type == "ByteFallback" || type == "Fuse") continue;
    if (type == "Metaspace") {
      TRIREME_ASSIGN_OR_RETURN(const SpacePrefix prefix, ReadPrependScheme(step));
      spec_.strip_leading_space = prefix != SpacePrefix::kNever;
    } else if (type == "Replace") {
      TRIREME_ASSIGN_OR_RETURN(const std::string_view from,
                               step.Member("pattern").Member("String").AsString());
      TRIREME_ASSIGN_OR_RETURN(const std::string_view to, step.Member("content").AsString());
      if (from != kSpaceMark || to != " ") return step.Error("does not replace U+2581 by spaces");
    } else if (type == "Strip") {
      TRIREME_ASSIGN_OR_RETURN(const std::string_view what, step.Member("content").AsString());
      TRIREME_ASSIGN_OR_RETURN(const int64_t start, step.Member("start").AsInt());
      TRIREME_ASSIGN_OR_RETURN(const int64_t stop, step.Member("stop").AsInt());
      if (what != " " || start != 1 || stop != 0) return step.Error("is not supported");
      spec_.strip_leading_space = true;
    } else {
      return UnsupportedType(step, type);
    }
  }
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadPostProcessor() {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<JsonNode> steps,
                           Steps(root_.Member("post_processor"), "processors"));
  for (const JsonNode& step : steps) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    if (type == "ByteLevel") continue;  // offsets only
    if (type != "TemplateProcessing") return UnsupportedType(step, type);
    TRIREME_RETURN_IF_ERROR(ReadTemplate(step));
  }
  return absl::OkStatus();
}

// At most one token before the text (bos) and one behind it (eos).
absl::Status TokenizerJsonReader::ReadTemplate(const JsonNode& step) {
  const JsonNode single = step.Member("single");
  TRIREME_ASSIGN_OR_RETURN(const json::array* parts, single.AsArray());
  bool behind_text = false;
  for (size_t i = 0; i < parts->size(); ++i) {
    const JsonNode part = single.Element(i);
    if (part.Member("Sequence").is_object()) {
      if (behind_text) return part.Error("the text stands twice");
      behind_text = true;
      continue;
    }
    TRIREME_ASSIGN_OR_RETURN(const std::string_view name,
                             part.Member("SpecialToken").Member("id").AsString());
    const JsonNode ids = step.Member("special_tokens").Member(name).Member("ids");
    TRIREME_ASSIGN_OR_RETURN(const json::array* list, ids.AsArray());
    bool& is_added = behind_text ? spec_.add_eos : spec_.add_bos;
    if (list->size() != 1 || is_added) return part.Error("more than one token is not supported");
    TRIREME_ASSIGN_OR_RETURN(const int64_t id, ids.Element(0).AsInt());
    if (id < 0 || id >= static_cast<int64_t>(spec_.tokens.size())) {
      return ids.Error(StrCat(id, " is outside the vocabulary"));
    }
    is_added = true;
    (behind_text ? spec_.eos : spec_.bos) = static_cast<TokenId>(id);
  }
  return behind_text ? absl::OkStatus() : single.Error("the text is missing");
}

}  // namespace trireme
