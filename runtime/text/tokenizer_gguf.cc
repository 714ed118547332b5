// TokenizerSpec from GGUF metadata. Names of pre-tokenizers and token types: llama.cpp's gguf
// constants.
#include <algorithm>
#include <limits>

#include "absl/strings/str_replace.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/bpe_model.h"
#include "runtime/text/end_tokens.h"
#include "runtime/text/tokenizer.h"

namespace trireme {
namespace {

enum TokenType { kUnknown = 2, kControl = 3, kUserDefined = 4 };

struct NamedPreTokenizer {
  std::string_view name;
  PreTokenizer kind;
  bool ignore_merges = false;
  bool add_bos = false;  // where tokenizer.ggml.add_bos_token is absent
  bool nfc = false;      // GGUF does not say; the published tokenizer.json does
};

constexpr NamedPreTokenizer kPreTokenizers[] = {
    {"", PreTokenizer::kGpt2},
    {"default", PreTokenizer::kGpt2},
    {"gpt-2", PreTokenizer::kGpt2},
    {"gpt2", PreTokenizer::kGpt2},
    {"phi-2", PreTokenizer::kGpt2},
    {"olmo", PreTokenizer::kGpt2},
    {"mpt", PreTokenizer::kGpt2},
    {"jais", PreTokenizer::kGpt2},
    {"exaone4", PreTokenizer::kGpt2},
    {"smollm", PreTokenizer::kSmolLM},
    {"starcoder", PreTokenizer::kSmolLM},
    {"refact", PreTokenizer::kSmolLM},
    {"command-r", PreTokenizer::kSmolLM},
    {"codeshell", PreTokenizer::kSmolLM},
    {"exaone", PreTokenizer::kSmolLM},
    {"minerva-7b", PreTokenizer::kSmolLM},
    {"llama3", PreTokenizer::kLlama3, true, true},
    {"llama-v3", PreTokenizer::kLlama3, true, true},
    {"llama-bpe", PreTokenizer::kLlama3, true, true},
    {"falcon3", PreTokenizer::kLlama3, true, true},
    {"falcon-h1", PreTokenizer::kLlama3, true, true},
    {"lfm2", PreTokenizer::kLlama3, true, true},
    {"smaug-bpe", PreTokenizer::kLlama3},
    {"glm4", PreTokenizer::kLlama3},
    {"chatglm-bpe", PreTokenizer::kLlama3},
    {"dbrx", PreTokenizer::kCl100k},
    {"cl100k", PreTokenizer::kCl100k},
    {"qwen2", PreTokenizer::kQwen2, false, false, true},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2, false, false, true},
    {"megrez", PreTokenizer::kQwen2, false, false, true},
    {"stablelm2", PreTokenizer::kQwen2},
    {"gpt-4o", PreTokenizer::kO200k},
    {"llama4", PreTokenizer::kO200k},
    {"o200k", PreTokenizer::kO200k},
};

absl::Status Error(std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("tokenizer.ggml.", key, ": ", what));
}

absl::Status ReadId(std::string_view key, const std::optional<int64_t>& value, size_t vocab_size,
                    std::optional<TokenId>* id) {
  if (!value) return absl::OkStatus();
  if (*value < 0 || static_cast<uint64_t>(*value) >= vocab_size) {
    return Error(key, StrCat(*value, " is outside the vocabulary of ", vocab_size));
  }
  *id = static_cast<TokenId>(*value);
  return absl::OkStatus();
}

absl::Status ReadByteLevel(GgufTokenizerFields& fields, TokenizerSpec* spec) {
  spec->kind = TokenizerSpec::Kind::kByteLevelBpe;
  const auto named = std::find_if(
      std::begin(kPreTokenizers), std::end(kPreTokenizers),
      [&](const NamedPreTokenizer& candidate) { return candidate.name == fields.pre; });
  if (named == std::end(kPreTokenizers)) {
    return Error("pre", StrCat("'", Printable(fields.pre), "' is not supported"));
  }
  spec->pre_tokenizer = named->kind;
  spec->ignore_merges = named->ignore_merges;
  spec->normalize_nfc = named->nfc;
  spec->add_bos = named->add_bos && fields.bos.has_value();
  if (fields.merges.empty()) return Error("merges", "missing");
  spec->merges.reserve(fields.merges.size());
  for (size_t i = 0; i < fields.merges.size(); ++i) {
    const std::string& merge = fields.merges[i];
    const size_t space = merge.find(' ', 1);
    if (merge.empty() || space == std::string::npos || space + 1 == merge.size()) {
      return Error("merges", StrCat("[", i, "] is not two pieces with a space between them"));
    }
    spec->merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(GgufTokenizerFields& fields, TokenizerSpec* spec) {
  spec->kind = TokenizerSpec::Kind::kSentencePieceBpe;
  spec->pre_tokenizer = PreTokenizer::kNone;
  if (fields.scores.size() != fields.tokens.size()) {
    return Error("scores",
                 StrCat(fields.scores.size(), " values for ", fields.tokens.size(), " tokens"));
  }
  spec->scores = std::move(fields.scores);
  spec->byte_fallback = true;
  spec->fuse_unk = true;
  spec->spaces_in_normalizer = true;
  const bool prefix = fields.add_space_prefix.value_or(true);
  spec->space_prefix =
      prefix ? TokenizerSpec::SpacePrefix::kEvery : TokenizerSpec::SpacePrefix::kNever;
  spec->strip_leading_space = prefix;
  spec->add_bos = fields.bos.has_value();
  return ReadId("unknown_token_id", fields.unk, fields.tokens.size(), &spec->unk);
}

// The text that a user-defined token matches: SentencePiece stores its spaces as U+2581.
std::string TextOf(std::string_view token, TokenizerSpec::Kind kind) {
  if (kind == TokenizerSpec::Kind::kByteLevelBpe) return std::string(token);
  return absl::StrReplaceAll(ToAbsl(token), {{ToAbsl(kSpaceMark), " "}});
}

absl::Status ReadAddedTokens(const GgufTokenizerFields& fields, TokenizerSpec* spec) {
  if (fields.token_types.empty()) return absl::OkStatus();
  if (fields.token_types.size() != fields.tokens.size()) {
    return Error("token_type", StrCat(fields.token_types.size(), " values for ",
                                      fields.tokens.size(), " tokens"));
  }
  for (size_t id = 0; id < fields.tokens.size(); ++id) {
    const int32_t type = fields.token_types[id];
    if (fields.tokens[id].empty()) continue;
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    TokenizerSpec::AddedToken token;
    token.id = static_cast<TokenId>(id);
    token.content = TextOf(fields.tokens[id], spec->kind);
    token.special = type != kUserDefined;
    spec->added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> TokenizerSpecFromGguf(GgufTokenizerFields fields) {
  TokenizerSpec spec;
  const size_t size = fields.tokens.size();
  if (size == 0) return Error("tokens", "missing");
  if (size > static_cast<size_t>(std::numeric_limits<TokenId>::max())) {
    return Error("tokens", "too many");
  }
  if (fields.model == "gpt2") {
    TRIREME_RETURN_IF_ERROR(ReadByteLevel(fields, &spec));
  } else if (fields.model == "llama") {
    TRIREME_RETURN_IF_ERROR(ReadSentencePiece(fields, &spec));
  } else {
    return Error("model", StrCat("'", Printable(fields.model), "' is not supported"));
  }
  TRIREME_RETURN_IF_ERROR(ReadAddedTokens(fields, &spec));
  TRIREME_RETURN_IF_ERROR(ReadId("bos_token_id", fields.bos, size, &spec.bos));
  TRIREME_RETURN_IF_ERROR(ReadId("eos_token_id", fields.eos, size, &spec.eos));
  TRIREME_RETURN_IF_ERROR(ReadId("padding_token_id", fields.pad, size, &spec.pad));
  std::optional<TokenId> eot;
  TRIREME_RETURN_IF_ERROR(ReadId("eot_token_id", fields.eot, size, &eot));
  spec.add_bos = fields.add_bos.value_or(spec.add_bos);
  spec.add_eos = fields.add_eos.value_or(false);
  if (spec.add_bos && !spec.bos) return Error("add_bos_token", "there is no bos_token_id");
  if (spec.add_eos && !spec.eos) return Error("add_eos_token", "there is no eos_token_id");
  if (eot) spec.eos_ids.push_back(*eot);
  CollectEndTokens(&spec);
  spec.tokens = std::move(fields.tokens);
  return spec;
}

}  // namespace trireme
