#include "runtime/text/bpe_model.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

// Longer pieces are rarely one token; the bound keeps hashing cheap and loading quick.
constexpr size_t kLongestWordBytes = 64;
constexpr char32_t kSpaceMarkCodePoint = 0x2581;

absl::Status MergeError(size_t index, std::string_view part, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("merges[", index, "]: '", Printable(part), "' ", what));
}

}  // namespace

// What a specification's tokens are to the model, while it is made.
class BpeModel::Vocabulary {
 public:
  Vocabulary(const TokenizerSpec& spec, const TokenIndex& ids)
      : spec(spec), ids_(ids), unformable_(spec.tokens.size()) {
    for (const TokenizerSpec::AddedToken& token : spec.added_tokens) {
      if (token.special) unformable_[token.id] = true;
    }
    if (spec.unk) unformable_[*spec.unk] = true;
    if (!spec.byte_fallback) return;
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (ByteOfToken(spec.tokens[id]) >= 0) unformable_[id] = true;
    }
  }

  // Whether text may turn into the token: not into control tokens, <0xNN>, and the unknown one.
  bool formable(TokenId id) const { return !unformable_[id] && !spec.tokens[id].empty(); }
  // kNoToken: there is none.
  TokenId Find(std::string_view text) const {
    const auto it = ids_.find(ToAbsl(text));
    return it == ids_.end() ? kNoToken : it->second;
  }
  TokenId FindFormable(std::string_view text) const {
    const TokenId id = Find(text);
    return id != kNoToken && formable(id) ? id : kNoToken;
  }
  TokenId size() const { return static_cast<TokenId>(spec.tokens.size()); }

  const TokenizerSpec& spec;

 private:
  const TokenIndex& ids_;
  std::vector<bool> unformable_;
};

absl::StatusOr<TokenIndex> IndexTokens(const std::vector<std::string>& tokens) {
  TokenIndex index;
  index.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    const auto [it, is_new] = index.emplace(tokens[id], static_cast<TokenId>(id));
    if (!is_new) {
      return absl::InvalidArgumentError(
          StrCat("tokens[", id, "]: the same as tokens[", it->second, "]"));
    }
  }
  return index;
}

int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

BpeModel::BpeModel(const TokenizerSpec& spec)
    : byte_level_(spec.kind == TokenizerSpec::Kind::kByteLevelBpe),
      unk_(spec.unk.value_or(kNoToken)),
      fuse_unk_(spec.fuse_unk) {
  byte_symbols_.fill(kNoToken);
  ascii_symbols_.fill(kNoToken);
}

absl::StatusOr<BpeModel> BpeModel::Create(const TokenizerSpec& spec, const TokenIndex& ids) {
  const Vocabulary vocabulary(spec, ids);
  BpeModel model(spec);
  model.AddSymbols(vocabulary);
  if (!spec.merges.empty()) {
    TRIREME_RETURN_IF_ERROR(model.AddListedMerges(vocabulary));
  } else if (!spec.scores.empty()) {
    TRIREME_RETURN_IF_ERROR(model.AddScoredMerges(vocabulary));
  }
  model.AddWords(vocabulary);
  return model;
}

void BpeModel::AddSymbols(const Vocabulary& vocabulary) {
  if (byte_level_) {
    for (int byte = 0; byte < 256; ++byte) {
      const char raw = static_cast<char>(byte);
      byte_symbols_[byte] = vocabulary.FindFormable(TokenOfBytes(std::string_view(&raw, 1)));
    }
    has_all_bytes_ = std::count(byte_symbols_.begin(), byte_symbols_.end(), kNoToken) == 0;
    return;
  }
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.formable(id)) continue;
    const std::string_view text = vocabulary.spec.tokens[id];
    size_t pos = 0;
    const char32_t c = NextCodePoint(text, pos);
    if (pos == text.size()) {
      if (c < ascii_symbols_.size()) {
        ascii_symbols_[c] = id;
      } else {
        symbols_[c] = id;
      }
    } else if (text.find(kSpaceMark, 1) != text.npos) {
      // Not "▁" all the way: then a mark stands behind another character.
      const size_t other = text.find_first_not_of(kSpaceMark);
      if (other != text.npos && text.find(kSpaceMark, other) != text.npos) {
        cuts_before_spaces_ = false;
      }
    }
  }
  // An unknown mark would be fused with unknown characters before it.
  if (!symbols_.contains(kSpaceMarkCodePoint)) cuts_before_spaces_ = false;
  if (!vocabulary.spec.byte_fallback) return;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const int byte = ByteOfToken(vocabulary.spec.tokens[id]);
    if (byte >= 0) byte_symbols_[byte] = id;
  }
  has_all_bytes_ = std::count(byte_symbols_.begin(), byte_symbols_.end(), kNoToken) == 0;
}

absl::Status BpeModel::AddListedMerges(const Vocabulary& vocabulary) {
  const auto& merges = vocabulary.spec.merges;
  if (merges.size() >= UINT32_MAX) return absl::InvalidArgumentError("merges: too many");
  merges_.Reserve(merges.size());
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    joined.assign(left).append(right);
    TokenId parts[3];
    const std::string_view texts[3] = {left, right, joined};
    for (int k = 0; k < 3; ++k) {
      parts[k] = vocabulary.Find(texts[k]);
      if (parts[k] == kNoToken) return MergeError(i, texts[k], "is not in the vocabulary");
    }
    // A rule that would make a control token out of text is left out.
    if (!vocabulary.formable(parts[2])) continue;
    merges_.Add(parts[0], parts[1], static_cast<uint32_t>(i), parts[2]);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddScoredMerges(const Vocabulary& vocabulary) {
  const std::vector<float>& scores = vocabulary.spec.scores;
  if (scores.size() != vocabulary.spec.tokens.size()) {
    return absl::InvalidArgumentError(
        StrCat("scores: ", scores.size(), " values for ", vocabulary.size(), " tokens"));
  }
  for (size_t id = 0; id < scores.size(); ++id) {
    if (std::isnan(scores[id])) {
      return absl::InvalidArgumentError(StrCat("scores[", id, "]: not a number"));
    }
  }
  // Equal scores share a rank: then the leftmost pair goes first, as in SentencePiece.
  std::vector<float> distinct = scores;
  std::sort(distinct.begin(), distinct.end(), std::greater<float>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.formable(id)) continue;
    const std::string_view text = vocabulary.spec.tokens[id];
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(distinct.begin(), distinct.end(), scores[id], std::greater<float>()) -
        distinct.begin());
    // Any two tokens that spell this one may be joined to it.
    size_t cut = 0;
    for (NextCodePoint(text, cut); cut < text.size(); NextCodePoint(text, cut)) {
      const TokenId left = vocabulary.FindFormable(text.substr(0, cut));
      if (left == kNoToken) continue;
      const TokenId right = vocabulary.FindFormable(text.substr(cut));
      if (right != kNoToken) merges_.Add(left, right, rank, id);
    }
  }
  return absl::OkStatus();
}

void BpeModel::AddWords(const Vocabulary& vocabulary) {
  size_t num_bytes = 0;  // of the texts: what bytes they stand for is no longer
  for (const std::string& token : vocabulary.spec.tokens) num_bytes += token.size();
  word_bytes_.reserve(num_bytes);
  words_.reserve(vocabulary.spec.tokens.size());
  whole_ = std::vector<std::atomic<Whole>>(vocabulary.spec.tokens.size());
  const bool ignore_merges = vocabulary.spec.ignore_merges;
  std::string piece;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.formable(id)) continue;
    const std::string& text = vocabulary.spec.tokens[id];
    piece.clear();
    if (byte_level_) {
      AppendBytesOfToken(text, &piece);
    } else {
      piece = text;
    }
    if (!ignore_merges && piece.size() > kLongestWordBytes) continue;
    if (ignore_merges) whole_[id].store(Whole::kYes, std::memory_order_relaxed);
    longest_word_ = std::max(longest_word_, piece.size());
    const char* const word = word_bytes_.data() + word_bytes_.size();
    word_bytes_.insert(word_bytes_.end(), piece.begin(), piece.end());
    words_.emplace(absl::string_view(word, piece.size()), id);
  }
}

bool BpeModel::IsWhole(std::string_view piece, TokenId id) const {
  Whole whole = whole_[id].load(std::memory_order_relaxed);
  if (whole == Whole::kUnknown) {
    std::vector<TokenId> ids;
    AppendSymbols(piece, &ids);
    whole = merges_.Apply(ids.data(), ids.size()) == 1 && ids[0] == id ? Whole::kYes : Whole::kNo;
    whole_[id].store(whole, std::memory_order_relaxed);  // whoever else looks finds the same
  }
  return whole == Whole::kYes;
}

TokenId BpeModel::SymbolOf(char32_t c) const {
  if (c < ascii_symbols_.size()) return ascii_symbols_[c];
  const auto it = symbols_.find(c);
  return it == symbols_.end() ? kNoToken : it->second;
}

void BpeModel::AppendSymbols(std::string_view piece, std::vector<TokenId>* out) const {
  bool after_unknown = false;
  for (size_t pos = 0; pos < piece.size();) {
    const size_t begin = pos;
    const TokenId id = byte_level_ ? byte_symbols_[static_cast<unsigned char>(piece[pos++])]
                                   : SymbolOf(NextCodePoint(piece, pos));
    if (id != kNoToken) {
      out->push_back(id);
      after_unknown = false;
    } else if (!byte_level_ && has_all_bytes_) {
      for (const unsigned char byte : piece.substr(begin, pos - begin)) {
        out->push_back(byte_symbols_[byte]);
      }
      after_unknown = false;
    } else if (unk_ != kNoToken) {
      if (!after_unknown || !fuse_unk_) out->push_back(unk_);
      after_unknown = true;
    }
  }
}

void BpeModel::Encode(std::string_view piece, std::vector<TokenId>* out) const {
  if (piece.size() <= longest_word_) {
    const auto it = words_.find(ToAbsl(piece));
    if (it != words_.end() && IsWhole(piece, it->second)) {
      out->push_back(it->second);
      return;
    }
  }
  const size_t begin = out->size();
  AppendSymbols(piece, out);
  out->resize(begin + merges_.Apply(out->data() + begin, out->size() - begin));
}

}  // namespace trireme
