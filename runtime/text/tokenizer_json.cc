// TokenizerSpec from tokenizer.json, the format of the Hugging Face tokenizers library. Only forms
// whose meaning we reproduce exactly are accepted; everything else is refused by its path.
#include <algorithm>
#include <boost/json.hpp>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/bpe_model.h"
#include "runtime/text/end_tokens.h"
#include "runtime/text/json_fields.h"
#include "runtime/text/tokenizer.h"

namespace trireme {
namespace {

namespace json = boost::json;
using Kind = TokenizerSpec::Kind;
using SpacePrefix = TokenizerSpec::SpacePrefix;

constexpr int kMaxDepth = 32;
// Ids may be left out (tokens that were removed), but a small file must not ask for a large table.
constexpr int64_t kMaxUnusedIds = 1 << 16;

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

absl::StatusOr<std::string_view> TypeOf(const JsonNode& node) {
  return node.Member("type").AsString();
}

absl::Status Unsupported(const JsonNode& node, std::string_view type) {
  return node.Member("type").Error(StrCat("'", type.substr(0, 64), "' is not supported"));
}

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

class TokenizerJsonReader {
 public:
  explicit TokenizerJsonReader(const json::value* document) : root_(document, "") {}

  absl::Status Read() {
    TRIREME_RETURN_IF_ERROR(root_.AsObject().status());
    TRIREME_RETURN_IF_ERROR(ReadModel());
    TRIREME_RETURN_IF_ERROR(ReadAddedTokens());
    TRIREME_RETURN_IF_ERROR(ReadNormalizer());
    TRIREME_RETURN_IF_ERROR(ReadPreTokenizer());
    TRIREME_RETURN_IF_ERROR(ReadDecoder());
    return ReadPostProcessor();
  }
  TokenizerSpec& spec() { return spec_; }

 private:
  absl::Status ReadModel();
  absl::Status ReadVocab(const JsonNode& vocab);
  absl::Status ReadMerges(const JsonNode& merges);
  absl::Status ReadAddedTokens();
  absl::Status ReadNormalizer();
  absl::Status ReadPreTokenizer();
  absl::Status ReadPreTokenizerStep(const JsonNode& step, bool is_first, bool* splits_digits);
  absl::Status ReadByteLevel(const JsonNode& step, bool is_first, bool splits_digits);
  absl::Status ReadSplit(const JsonNode& step);
  absl::Status ReadMetaspace(const JsonNode& step);
  absl::StatusOr<SpacePrefix> ReadPrependScheme(const JsonNode& step);
  absl::Status ReadDecoder();
  absl::Status ReadPostProcessor();
  absl::Status ReadTemplate(const JsonNode& step);
  absl::Status PlaceToken(const JsonNode& where, int64_t id, std::string_view text);

  const JsonNode root_;
  TokenizerSpec spec_;
  int64_t num_placed_ = 0;  // non-empty entries of spec_.tokens
  bool has_byte_level_ = false, has_metaspace_ = false;
  std::optional<PreTokenizer> pattern_;  // of a Split step
};

// Ids come in any order: the table grows with them, but not past what the number of tokens
// justifies.
absl::Status TokenizerJsonReader::PlaceToken(const JsonNode& where, int64_t id,
                                             std::string_view text) {
  const auto size = static_cast<int64_t>(spec_.tokens.size());
  if (id < 0 || id >= size) {
    return where.Error(StrCat("id ", id, " leaves more than ", kMaxUnusedIds, " ids unused"));
  }
  if (spec_.tokens[id] == text) return absl::OkStatus();
  if (!spec_.tokens[id].empty()) return where.Error(StrCat("id ", id, " has another token"));
  spec_.tokens[id] = std::string(text);
  ++num_placed_;
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadModel() {
  const JsonNode model = root_.Member("model");
  TRIREME_RETURN_IF_ERROR(model.AsObject().status());
  if (!model.Member("type").absent()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(model));
    if (type != "BPE") return Unsupported(model, type);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonNode affix = model.Member(key);
    if (affix.absent()) continue;
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, affix.AsString());
    if (!text.empty()) return affix.Error("is not supported");
  }
  if (const JsonNode dropout = model.Member("dropout"); !dropout.absent()) {
    if (!dropout.value()->is_number() || dropout.value()->to_number<double>() != 0) {
      return dropout.Error("is not supported");
    }
  }
  TRIREME_ASSIGN_OR_RETURN(spec_.byte_fallback, model.Member("byte_fallback").AsBool(false));
  TRIREME_ASSIGN_OR_RETURN(spec_.fuse_unk, model.Member("fuse_unk").AsBool(false));
  TRIREME_ASSIGN_OR_RETURN(spec_.ignore_merges, model.Member("ignore_merges").AsBool(false));
  TRIREME_RETURN_IF_ERROR(ReadVocab(model.Member("vocab")));
  if (const JsonNode unk = model.Member("unk_token"); !unk.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, unk.AsString());
    const auto found = std::find(spec_.tokens.begin(), spec_.tokens.end(), text);
    if (text.empty() || found == spec_.tokens.end()) return unk.Error("is not in model.vocab");
    spec_.unk = static_cast<TokenId>(found - spec_.tokens.begin());
  }
  return ReadMerges(model.Member("merges"));
}

absl::Status TokenizerJsonReader::ReadVocab(const JsonNode& vocab) {
  TRIREME_ASSIGN_OR_RETURN(const json::object* entries, vocab.AsObject());
  const JsonNode added = root_.Member("added_tokens");
  size_t num_tokens = entries->size();
  if (!added.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const json::array* list, added.AsArray());
    num_tokens += list->size();
  }
  const int64_t limit = static_cast<int64_t>(num_tokens) + kMaxUnusedIds;
  spec_.tokens.resize(limit);
  for (const auto& [text, id] : *entries) {
    const JsonNode entry(&id, vocab.path());
    TRIREME_ASSIGN_OR_RETURN(const int64_t value, entry.AsInt());
    TRIREME_RETURN_IF_ERROR(PlaceToken(entry, value, std::string_view(text.data(), text.size())));
  }
  if (num_placed_ != static_cast<int64_t>(entries->size())) return vocab.Error("an empty token");
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadMerges(const JsonNode& merges) {
  TRIREME_ASSIGN_OR_RETURN(const json::array* list, merges.AsArray());
  spec_.merges.reserve(list->size());
  for (size_t i = 0; i < list->size(); ++i) {
    const json::value& merge = (*list)[i];
    if (merge.is_string()) {  // "left right"
      TRIREME_ASSIGN_OR_RETURN(const std::string_view text, merges.Element(i).AsString());
      const size_t space = text.find(' ');
      if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
        spec_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
        continue;
      }
    } else if (const json::array* pair = merge.if_array()) {  // ["left", "right"]
      if (pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
        spec_.merges.emplace_back((*pair)[0].as_string(), (*pair)[1].as_string());
        continue;
      }
    }
    return merges.Element(i).Error("not two pieces");
  }
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadAddedTokens() {
  const JsonNode added = root_.Member("added_tokens");
  if (!added.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const json::array* list, added.AsArray());
    for (size_t i = 0; i < list->size(); ++i) {
      const JsonNode node = added.Element(i);
      TokenizerSpec::AddedToken token;
      TRIREME_ASSIGN_OR_RETURN(const int64_t id, node.Member("id").AsInt());
      TRIREME_ASSIGN_OR_RETURN(const std::string_view content, node.Member("content").AsString());
      if (content.empty()) return node.Member("content").Error("empty");
      TRIREME_ASSIGN_OR_RETURN(token.special, node.Member("special").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.lstrip, node.Member("lstrip").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.rstrip, node.Member("rstrip").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.single_word, node.Member("single_word").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.normalized, node.Member("normalized").AsBool(true));
      TRIREME_RETURN_IF_ERROR(PlaceToken(node.Member("id"), id, content));
      token.id = static_cast<TokenId>(id);
      token.content = std::string(content);
      spec_.added_tokens.push_back(std::move(token));
    }
  }
  while (!spec_.tokens.empty() && spec_.tokens.back().empty()) spec_.tokens.pop_back();
  return absl::OkStatus();
}

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
      return Unsupported(step, type);
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
  if (!is_first) return Unsupported(step, type);
  if (type == "Metaspace") return ReadMetaspace(step);
  if (type == "Split") return ReadSplit(step);
  if (type == "Digits") {
    TRIREME_ASSIGN_OR_RETURN(*splits_digits, step.Member("individual_digits").AsBool(false));
    if (!*splits_digits) return step.Member("individual_digits").Error("must be true");
    return absl::OkStatus();
  }
  return Unsupported(step, type);
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
          StrCat("'", type.substr(0, 64), "' does not fit the pre_tokenizer"));
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
      return Unsupported(step, type);
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
    if (type != "TemplateProcessing") return Unsupported(step, type);
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
