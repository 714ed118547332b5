// Text to token ids and back: byte-level BPE and SentencePiece-style BPE with byte fallback.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/text/pre_tokenizer.h"

namespace trireme {

// Everything a tokenizer is made of, whichever file it came from (tokenizer.json, GGUF metadata).
struct TokenizerSpec {
  enum class Kind { kByteLevelBpe, kSentencePieceBpe };
  // How a SentencePiece-style vocabulary chooses merges: by merge rank list (tokenizer.json) or by
  // piece score (GGUF).
  Kind kind = Kind::kByteLevelBpe;
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;  // kNone for SentencePiece-style vocabularies

  // [vocab_size] as stored: byte-level alphabet, or U+2581 for spaces. Unique; empty where an id is
  // not used.
  std::vector<std::string> tokens;
  // Merges come from a list (best first), or, SentencePiece-style without one, from the pieces'
  // scores (best highest).
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<float> scores;  // [vocab_size] or empty
  struct AddedToken {
    TokenId id = 0;
    std::string content;   // as it stands in text; at most kMaxAddedTokenBytes
    bool special = false;  // control token: never formed from user text, skipped when decoding
    bool lstrip = false, rstrip = false;  // takes the white space on that side with it
    bool single_word = false;             // only where no word character stands beside it
    bool normalized = false;  // looked for after normalization, its content being normalized too
  };
  static constexpr size_t kMaxAddedTokenBytes = 1024;
  std::vector<AddedToken> added_tokens;

  // A space put before the text, or before every stretch of text between added tokens.
  enum class SpacePrefix { kNever, kFirst, kEvery };
  SpacePrefix space_prefix = SpacePrefix::kNever;
  // SentencePiece-style: U+2581 replaces spaces (and the prefix is put, even before a space) while
  // normalizing. When false, that happens after added tokens were taken out, and no prefix is put
  // before a space. The same for byte-level.
  bool spaces_in_normalizer = false;
  bool split_at_spaces = false;      // SentencePiece-style: a piece begins at every U+2581
  bool strip_leading_space = false;  // Decode drops one space at the front of the text

  bool byte_fallback = false;  // unknown characters become <0xNN> tokens
  bool fuse_unk = false;       // neighbouring unknown characters become one `unk`
  bool ignore_merges = false;  // a piece that is itself a token is taken whole (Llama 3)
  bool normalize_nfc = false;
  bool add_bos = false, add_eos = false;  // what Encode(add_special=true) puts around the text
  std::optional<TokenId> bos, eos, pad;
  std::optional<TokenId>
      unk;  // what characters outside the vocabulary become; they vanish when absent
  std::vector<TokenId> eos_ids;  // every id that ends generation (eos, <|eot_id|>, <|im_end|> ...)
};

// Immutable and thread-safe after Create. Cost is O(n log n) in the text's length for any input of
// less than 4 GiB.
class Tokenizer {
 public:
  // INVALID_ARGUMENT, naming the field, when the spec contradicts itself (ids out of range, merges
  // of unknown pieces).
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Create(TokenizerSpec spec);
  virtual ~Tokenizer() = default;

  enum class SpecialTokens {
    kAsText,  // user content: "<|im_end|>" is ten characters of text
    kParse,  // text that we made ourselves (rendered chat templates): special tokens are recognised
  };
  // Ids of `text` (UTF-8; invalid bytes are treated as U+FFFD, like the reference). `add_special`:
  // put bos/eos as the spec says. Never fails: every text has ids.
  virtual std::vector<TokenId> Encode(std::string_view text, SpecialTokens special,
                                      bool add_special) const = 0;

  // Rendered chat templates mix our own markup with user text. A special token is recognised only
  // where it lies wholly outside the spans [begin, end) of `text` in `user_spans` (within the text;
  // order does not matter). The spans change nothing else: ordinary text on both sides of a border
  // is tokenized together.
  struct ByteSpan {
    size_t begin, end;
  };
  virtual std::vector<TokenId> EncodeTemplate(std::string_view text,
                                              absl::Span<const ByteSpan> user_spans,
                                              bool add_special) const = 0;

  // No token stands for more bytes of text than this, so a text of more than n times as many has
  // more than n ids. nullopt: there is no such bound (characters that vanish or become one unknown
  // token, added tokens that take white space with them).
  virtual std::optional<size_t> max_bytes_per_token() const = 0;

  // The bytes of one token as they appear inside running text (may be part of a code point).
  // Special tokens give their content. Empty for ids outside the vocabulary.
  virtual std::string_view TokenBytes(TokenId id) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;

  // Ids to text. Bytes that are no UTF-8 become U+FFFD. Out-of-range ids are skipped.
  virtual std::string Decode(absl::Span<const TokenId> ids, bool skip_special) const = 0;

  virtual std::optional<TokenId> FindToken(
      std::string_view content) const = 0;  // by stored or added content
  int vocab_size() const { return static_cast<int>(spec_.tokens.size()); }
  const TokenizerSpec& spec() const { return spec_; }

 protected:
  explicit Tokenizer(TokenizerSpec spec) : spec_(std::move(spec)) {}
  TokenizerSpec spec_;
};

// Reads a Hugging Face tokenizer.json (text of the file) and, when not empty, tokenizer_config.json
// (bos/eos/add_bos_token ...). Unsupported models or normalizers: INVALID_ARGUMENT naming the JSON
// path.
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view tokenizer_json,
                                                 std::string_view tokenizer_config_json);

// The same from GGUF metadata (tokenizer.ggml.*), already read into plain values by the caller.
struct GgufTokenizerFields {
  std::string model;  // "gpt2" or "llama"
  std::string pre;    // "smollm", "llama-bpe", "qwen2", "gpt-2", ... empty: default
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t>
      token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "left right"
  std::optional<int64_t> bos, eos, unk, pad, eot;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};
absl::StatusOr<TokenizerSpec> TokenizerSpecFromGguf(GgufTokenizerFields fields);

}  // namespace trireme
