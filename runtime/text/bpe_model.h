// Pieces of text to token ids: the vocabulary, its merges and what becomes of unknown characters.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "runtime/text/bpe.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

inline constexpr std::string_view kSpaceMark =
    "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

// The byte that a token of the form <0xNN> stands for; -1 for other tokens.
int ByteOfToken(std::string_view token);

// The ids of a vocabulary's tokens, by their texts, which it does not own.
using TokenIndex = absl::flat_hash_map<absl::string_view, TokenId>;

// Without empty tokens. INVALID_ARGUMENT for duplicates.
absl::StatusOr<TokenIndex> IndexTokens(const std::vector<std::string>& tokens);

// Thread-safe after Create: what it remembers of words changes no result.
class BpeModel {
 public:
  // `spec` has valid UTF-8 in its tokens and ids within the vocabulary; `ids` is the index of its
  // tokens; neither is kept. INVALID_ARGUMENT for merges or scores that do not fit the vocabulary.
  static absl::StatusOr<BpeModel> Create(const TokenizerSpec& spec, const TokenIndex& ids);
  BpeModel(BpeModel&&) = default;

  // Appends the ids of one piece: raw bytes of text for a byte-level vocabulary, text with U+2581
  // for spaces else.
  void Encode(std::string_view piece, std::vector<TokenId>* out) const;

  // Every byte has a token (SentencePiece-style: as its fallback): nothing is unknown.
  bool has_all_bytes() const { return has_all_bytes_; }

  // SentencePiece-style: no token has U+2581 behind another character, so text may be cut before
  // runs of it.
  bool cuts_before_spaces() const { return cuts_before_spaces_; }

 private:
  static constexpr TokenId kNoToken = -1;
  class Vocabulary;

  explicit BpeModel(const TokenizerSpec& spec);
  absl::Status AddListedMerges(const Vocabulary& vocabulary);
  absl::Status AddScoredMerges(const Vocabulary& vocabulary);
  void AddSymbols(const Vocabulary& vocabulary);
  void AddWords(const Vocabulary& vocabulary);
  void AppendSymbols(std::string_view piece, std::vector<TokenId>* out) const;
  TokenId SymbolOf(char32_t c) const;

  // Constant after Create.
  const bool byte_level_;
  const TokenId unk_;
  const bool fuse_unk_;
  bool cuts_before_spaces_ = true;
  bool has_all_bytes_ = false;
  std::array<TokenId, 256> byte_symbols_;           // of a byte; SentencePiece-style: <0xNN>
  std::array<TokenId, 128> ascii_symbols_;          // SentencePiece-style: one-character tokens
  absl::flat_hash_map<char32_t, TokenId> symbols_;  // the same for other characters
  BpeMerges merges_;
  // Tokens that a piece may come out as, so that merging can be skipped: most words of most texts.
  // That it does is looked at when the word first comes: for all of a vocabulary, merging would
  // take a third of the time to load it.
  enum class Whole : uint8_t { kUnknown, kYes, kNo };
  bool IsWhole(std::string_view piece, TokenId id) const;
  TokenIndex words_;
  mutable std::vector<std::atomic<Whole>> whole_;  // [vocab_size]
  std::vector<char> word_bytes_;  // what words_ points to: never reallocated, and stays when moved
  size_t longest_word_ = 0;
};

}  // namespace trireme
