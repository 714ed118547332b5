// The pipeline of Encode, in the order of the Hugging Face library:
//
//   text -> valid UTF-8 -> added tokens -> normalize -> normalized added tokens -> space prefix ->
//   pieces -> BPE
//
// Each stage hands on the stretches that it did not turn into ids.
#include "runtime/text/tokenizer.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe_model.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/nfc.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr size_t kMaxVocabSize = 1 << 22;
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxVocabBytes = 1 << 30;
// The most that NFC takes away: "ΐ" of 2 bytes may have been 7 (U+1FBE, U+0308, U+0301).
constexpr size_t kMaxNfcShrinkage = 4;

using Kind = TokenizerSpec::Kind;
using SpacePrefix = TokenizerSpec::SpacePrefix;

absl::Status CheckId(const std::optional<TokenId>& id, std::string_view field, size_t vocab_size) {
  if (id && (*id < 0 || static_cast<size_t>(*id) >= vocab_size)) {
    return absl::InvalidArgumentError(
        StrCat(field, ": token id ", *id, " is outside the vocabulary of ", vocab_size));
  }
  return absl::OkStatus();
}

absl::Status CheckAddedTokens(const TokenizerSpec& spec) {
  absl::flat_hash_map<std::string, TokenId> id_of;
  absl::flat_hash_map<TokenId, size_t> index_of;
  for (size_t i = 0; i < spec.added_tokens.size(); ++i) {
    const TokenizerSpec::AddedToken& token = spec.added_tokens[i];
    const std::string field = StrCat("added_tokens[", i, "]");
    TRIREME_RETURN_IF_ERROR(CheckId(token.id, field, spec.tokens.size()));
    if (token.content.empty()) return absl::InvalidArgumentError(StrCat(field, ": empty content"));
    if (token.content.size() > TokenizerSpec::kMaxAddedTokenBytes) {
      return absl::InvalidArgumentError(StrCat(field, ": content of ", token.content.size(),
                                               " bytes; at most ",
                                               TokenizerSpec::kMaxAddedTokenBytes));
    }
    if (!IsValidUtf8(token.content)) {
      return absl::InvalidArgumentError(StrCat(field, ": content is not UTF-8"));
    }
    if (!id_of.emplace(token.content, token.id).second) {
      return absl::InvalidArgumentError(StrCat(field, ": its content occurs twice"));
    }
    if (!index_of.emplace(token.id, i).second) {
      return absl::InvalidArgumentError(StrCat(field, ": id ", token.id, " occurs twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpec(const TokenizerSpec& spec) {
  const size_t size = spec.tokens.size();
  if (size == 0) return absl::InvalidArgumentError("tokens: empty vocabulary");
  if (size > kMaxVocabSize) {
    return absl::InvalidArgumentError(
        StrCat("tokens: ", size, " of them; at most ", kMaxVocabSize));
  }
  size_t num_bytes = 0;
  for (size_t id = 0; id < size; ++id) {
    num_bytes += spec.tokens[id].size();
    if (spec.tokens[id].size() > kMaxTokenBytes) {
      return absl::InvalidArgumentError(
          StrCat("tokens[", id, "]: longer than ", kMaxTokenBytes, " bytes"));
    }
    if (!IsValidUtf8(spec.tokens[id])) {
      return absl::InvalidArgumentError(StrCat("tokens[", id, "]: not UTF-8"));
    }
  }
  if (num_bytes > kMaxVocabBytes) {
    return absl::InvalidArgumentError(
        StrCat("tokens: ", num_bytes, " bytes; at most ", kMaxVocabBytes));
  }
  TRIREME_RETURN_IF_ERROR(CheckId(spec.bos, "bos", size));
  TRIREME_RETURN_IF_ERROR(CheckId(spec.eos, "eos", size));
  TRIREME_RETURN_IF_ERROR(CheckId(spec.unk, "unk", size));
  TRIREME_RETURN_IF_ERROR(CheckId(spec.pad, "pad", size));
  for (const TokenId id : spec.eos_ids) TRIREME_RETURN_IF_ERROR(CheckId(id, "eos_ids", size));
  if (spec.add_bos && !spec.bos)
    return absl::InvalidArgumentError("add_bos: there is no bos token");
  if (spec.add_eos && !spec.eos)
    return absl::InvalidArgumentError("add_eos: there is no eos token");
  return CheckAddedTokens(spec);
}

std::string ReplaceSpaceMarks(std::string_view token) {
  std::string out;
  for (size_t pos = 0; pos < token.size();) {
    const size_t mark = std::min(token.find(kSpaceMark, pos), token.size());
    out.append(token, pos, mark - pos);
    if (mark < token.size()) out.push_back(' ');
    pos = mark + kSpaceMark.size();
  }
  return out;
}

class BpeTokenizer final : public Tokenizer {
 public:
  // `ids` is the index of spec.tokens.
  BpeTokenizer(TokenizerSpec spec, TokenIndex ids, BpeModel model)
      : Tokenizer(std::move(spec)),
        model_(std::move(model)),
        byte_level_(spec_.kind == Kind::kByteLevelBpe),
        ids_(std::move(ids)) {
    BuildTokenBytes();
    BuildAddedTokens();
    BoundTokenBytes();
    for (const TokenizerSpec::AddedToken& token : spec_.added_tokens) {
      ids_[token.content] = token.id;
    }
  }

  std::vector<TokenId> Encode(std::string_view text, SpecialTokens special,
                              bool add_special) const override {
    return EncodeGuarded({text, {}}, special == SpecialTokens::kParse, add_special);
  }

  std::vector<TokenId> EncodeTemplate(std::string_view text, absl::Span<const ByteSpan> user_spans,
                                      bool add_special) const override {
    std::string protection;
    if (!user_spans.empty()) protection.assign(text.size(), 0);
    for (const ByteSpan& span : user_spans) {
      const size_t end = std::min(span.end, text.size());
      for (size_t i = span.begin; i < end; ++i) protection[i] = 1;
    }
    return EncodeGuarded({text, protection}, true, add_special);
  }

  std::optional<size_t> max_bytes_per_token() const override { return max_bytes_per_token_; }

  std::string_view TokenBytes(TokenId id) const override {
    if (id < 0 || id >= vocab_size()) return {};
    return std::string_view(bytes_).substr(begin_[id], begin_[id + 1] - begin_[id]);
  }

  bool IsSpecial(TokenId id) const override { return id >= 0 && id < vocab_size() && special_[id]; }

  std::string Decode(absl::Span<const TokenId> ids, bool skip_special) const override {
    std::string bytes;
    for (const TokenId id : ids) {
      if (!skip_special || !IsSpecial(id)) bytes.append(TokenBytes(id));
    }
    std::string_view kept = bytes;
    if (spec_.strip_leading_space && !kept.empty() && kept[0] == ' ') kept.remove_prefix(1);
    std::string text;
    text.reserve(kept.size());
    AppendValidUtf8(kept, false, &text);
    return text;
  }

  std::optional<TokenId> FindToken(std::string_view content) const override {
    const auto it = ids_.find(ToAbsl(content));
    if (it == ids_.end()) return std::nullopt;
    return it->second;
  }

 private:
  void BuildTokenBytes();
  void BuildAddedTokens();
  void BoundTokenBytes();
  std::vector<TokenId> EncodeGuarded(const GuardedText& text, bool parse_special,
                                     bool add_special) const;
  void EncodeStretch(const GuardedText& text, bool parse_special, bool at_start,
                     std::vector<TokenId>* ids) const;
  void EncodeOrdinary(std::string_view text, bool at_start, std::vector<TokenId>* ids) const;
  void EncodeMarked(std::string_view text, std::vector<TokenId>* ids) const;
  bool WantsPrefix(bool at_start) const {
    return spec_.space_prefix == SpacePrefix::kEvery ||
           (spec_.space_prefix == SpacePrefix::kFirst && at_start);
  }
  bool MarksSpacesInNormalizer() const { return !byte_level_ && spec_.spaces_in_normalizer; }
  GuardedString Normalize(const GuardedText& text, bool at_start) const;
  bool NeedsNormalizing(std::string_view text) const {
    return MarksSpacesInNormalizer() || (spec_.normalize_nfc && !IsTriviallyNfc(text));
  }

  // Constant after construction.
  const BpeModel model_;
  const bool byte_level_;
  std::string bytes_;            // of all tokens, one behind the other
  std::vector<uint32_t> begin_;  // [vocab_size + 1] offsets into bytes_
  std::vector<bool> special_;    // [vocab_size]
  std::optional<size_t> max_bytes_per_token_;
  TokenIndex ids_;                       // of tokens and added tokens
  AddedTokenMatcher raw_tokens_;         // looked for in the text as it came
  AddedTokenMatcher normalized_tokens_;  // looked for in normalized text
};

void BpeTokenizer::BuildTokenBytes() {
  special_.resize(spec_.tokens.size());
  std::vector<const std::string*> content(spec_.tokens.size());
  for (const TokenizerSpec::AddedToken& token : spec_.added_tokens) {
    content[token.id] = &token.content;
    special_[token.id] = token.special;
  }
  begin_.reserve(spec_.tokens.size() + 1);
  size_t num_bytes = 0;
  for (const std::string& token : spec_.tokens) num_bytes += token.size();
  bytes_.reserve(num_bytes);  // about
  for (size_t id = 0; id < spec_.tokens.size(); ++id) {
    begin_.push_back(static_cast<uint32_t>(bytes_.size()));
    const std::string& stored = spec_.tokens[id];
    const int byte = spec_.byte_fallback ? ByteOfToken(stored) : -1;
    if (content[id] != nullptr) {
      bytes_.append(*content[id]);
    } else if (byte_level_) {
      AppendBytesOfToken(stored, &bytes_);
    } else if (byte >= 0) {
      bytes_.push_back(static_cast<char>(byte));
    } else {
      bytes_.append(ReplaceSpaceMarks(stored));
    }
  }
  begin_.push_back(static_cast<uint32_t>(bytes_.size()));
}

void BpeTokenizer::BuildAddedTokens() {
  for (const TokenizerSpec::AddedToken& token : spec_.added_tokens) {
    const AddedTokenMatcher::Flags flags{token.special, token.lstrip, token.rstrip,
                                         token.single_word};
    if (!token.normalized) {
      raw_tokens_.Add(token.content, token.id, flags);
    } else if (NeedsNormalizing(token.content)) {
      normalized_tokens_.Add(Normalize({token.content, {}}, true).text, token.id, flags);
    } else {
      normalized_tokens_.Add(token.content, token.id, flags);
    }
  }
}

void BpeTokenizer::BoundTokenBytes() {
  if (!model_.has_all_bytes()) return;
  for (const TokenizerSpec::AddedToken& token : spec_.added_tokens) {
    if (token.lstrip || token.rstrip) return;
  }
  size_t longest = 0;
  for (TokenId id = 0; id < vocab_size(); ++id) longest = std::max(longest, TokenBytes(id).size());
  if (!byte_level_) longest *= kSpaceMark.size();  // a text may spell the mark instead of the space
  if (spec_.normalize_nfc) longest *= kMaxNfcShrinkage;
  max_bytes_per_token_ = longest;
}

std::vector<TokenId> BpeTokenizer::EncodeGuarded(const GuardedText& given, bool parse_special,
                                                 bool add_special) const {
  GuardedString repaired;
  GuardedText text = given;
  if (!IsValidUtf8(given.text)) {
    repaired = WithValidUtf8(given);
    text = repaired.view();
  }
  std::vector<TokenId> ids;
  ids.reserve(text.text.size() / 3 + 2);
  if (add_special && spec_.add_bos) ids.push_back(*spec_.bos);
  size_t pos = 0;
  AddedTokenMatcher::Match match;
  while (raw_tokens_.FindNext(text, pos, parse_special, &match)) {
    EncodeStretch(text.Slice(pos, match.begin), parse_special, pos == 0, &ids);
    ids.push_back(match.id);
    pos = match.end;
  }
  EncodeStretch(text.Slice(pos, text.text.size()), parse_special, pos == 0, &ids);
  if (add_special && spec_.add_eos) ids.push_back(*spec_.eos);
  return ids;
}

GuardedString BpeTokenizer::Normalize(const GuardedText& given, bool at_start) const {
  GuardedString text{std::string(given.text), std::string(given.protection)};
  if (spec_.normalize_nfc && !IsTriviallyNfc(text.text)) text = WithNfc(text.view());
  if (MarksSpacesInNormalizer()) text = WithSpaceMarks(text.view(), WantsPrefix(at_start));
  return text;
}

void BpeTokenizer::EncodeStretch(const GuardedText& given, bool parse_special, bool at_start,
                                 std::vector<TokenId>* ids) const {
  if (given.text.empty()) return;
  GuardedString normalized;
  GuardedText text = given;
  if (NeedsNormalizing(given.text)) {
    normalized = Normalize(given, at_start);
    text = normalized.view();
  }
  size_t pos = 0;
  AddedTokenMatcher::Match match;
  while (normalized_tokens_.FindNext(text, pos, parse_special, &match)) {
    EncodeOrdinary(text.text.substr(pos, match.begin - pos), at_start && pos == 0, ids);
    ids->push_back(match.id);
    pos = match.end;
  }
  EncodeOrdinary(text.text.substr(pos), at_start && pos == 0, ids);
}

void BpeTokenizer::EncodeOrdinary(std::string_view text, bool at_start,
                                  std::vector<TokenId>* ids) const {
  if (text.empty()) return;
  if (!byte_level_) {
    if (spec_.spaces_in_normalizer) return EncodeMarked(text, ids);
    const bool has_prefix = text[0] == ' ' || text.substr(0, kSpaceMark.size()) == kSpaceMark;
    return EncodeMarked(WithSpaceMarks({text, {}}, WantsPrefix(at_start) && !has_prefix).text, ids);
  }
  std::string prefixed;
  if (WantsPrefix(at_start) && text[0] != ' ') {
    prefixed = StrCat(" ", text);
    text = prefixed;
  }
  PieceScanner scanner(spec_.pre_tokenizer, text);
  while (!scanner.done()) model_.Encode(scanner.Next(), ids);
}

void BpeTokenizer::EncodeMarked(std::string_view text, std::vector<TokenId>* ids) const {
  if (!spec_.split_at_spaces && !model_.cuts_before_spaces()) return model_.Encode(text, ids);
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    if (!spec_.split_at_spaces) {  // a run of marks stays together
      while (text.substr(end, kSpaceMark.size()) == kSpaceMark) end += kSpaceMark.size();
    }
    end = std::min(text.find(kSpaceMark, std::max(end, begin + 1)), text.size());
    model_.Encode(text.substr(begin, end - begin), ids);
    begin = end;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  TRIREME_RETURN_IF_ERROR(CheckSpec(spec));
  TRIREME_ASSIGN_OR_RETURN(TokenIndex ids, IndexTokens(spec.tokens));
  TRIREME_ASSIGN_OR_RETURN(BpeModel model, BpeModel::Create(spec, ids));
  // Moved, the tokens stay where `ids` points to.
  return std::make_unique<const BpeTokenizer>(std::move(spec), std::move(ids), std::move(model));
}

}  // namespace trireme
