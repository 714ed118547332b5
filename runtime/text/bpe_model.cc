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

// Ids that no text may turn into: control tokens, <0xNN>, and the unknown token.
std::vector<bool> UnformableTokens(const TokenizerSpec& spec) {
  std::vector<bool> unformable(spec.tokens.size());
  for (const TokenizerSpec::AddedToken& token : spec.added_tokens) {
    if (token.special) unformable[token.id] = true;
  }
  if (spec.unk) unformable[*spec.unk] = true;
  if (spec.byte_fallback) {
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (ByteOfToken(spec.tokens[id]) >= 0) unformable[id] = true;
    }
  }
  return unformable;
}

absl::Status MergeError(size_t index, std::string_view part, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("merges[", index, "]: '", Printable(part), "' ", what));
}

}  // namespace

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

absl::StatusOr<BpeModel> BpeModel::Create(const TokenizerSpec& spec) {
  const std::vector<bool> unformable = UnformableTokens(spec);
  TextIndex all;
  all.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty()) continue;
    const auto [it, is_new] = all.emplace(spec.tokens[id], static_cast<TokenId>(id));
    if (!is_new) {
      return absl::InvalidArgumentError(
          StrCat("tokens[", id, "]: the same as tokens[", it->second, "]"));
    }
  }

  BpeModel model(spec);
  TextIndex formable = all;
  absl::erase_if(formable, [&](const auto& entry) { return unformable[entry.second]; });
  model.AddSymbols(spec, formable);
  if (!spec.merges.empty()) {
    TRIREME_RETURN_IF_ERROR(model.AddListedMerges(spec, all));
  } else if (!spec.scores.empty()) {
    TRIREME_RETURN_IF_ERROR(model.AddScoredMerges(spec, formable));
  }
  model.AddWords(spec, formable);
  return model;
}

void BpeModel::AddSymbols(const TokenizerSpec& spec, const TextIndex& ids) {
  if (byte_level_) {
    for (int byte = 0; byte < 256; ++byte) {
      const char raw = static_cast<char>(byte);
      const auto it = ids.find(TokenOfBytes(std::string_view(&raw, 1)));
      if (it != ids.end()) byte_symbols_[byte] = it->second;
    }
    has_all_bytes_ = std::count(byte_symbols_.begin(), byte_symbols_.end(), kNoToken) == 0;
    return;
  }
  for (const auto& [text, id] : ids) {
    size_t pos = 0;
    const char32_t c = NextCodePoint(FromAbsl(text), pos);
    if (pos == text.size()) {
      if (c < ascii_symbols_.size()) {
        ascii_symbols_[c] = id;
      } else {
        symbols_[c] = id;
      }
    } else if (text.find(ToAbsl(kSpaceMark), 1) != text.npos) {
      // Not "▁" all the way: then a mark stands behind another character.
      const size_t other = text.find_first_not_of(ToAbsl(kSpaceMark));
      if (other != text.npos && text.find(ToAbsl(kSpaceMark), other) != text.npos) {
        cuts_before_spaces_ = false;
      }
    }
  }
  // An unknown mark would be fused with unknown characters before it.
  if (!symbols_.contains(kSpaceMarkCodePoint)) cuts_before_spaces_ = false;
  if (!spec.byte_fallback) return;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const int byte = ByteOfToken(spec.tokens[id]);
    if (byte >= 0) byte_symbols_[byte] = static_cast<TokenId>(id);
  }
  has_all_bytes_ = std::count(byte_symbols_.begin(), byte_symbols_.end(), kNoToken) == 0;
}

absl::Status BpeModel::AddListedMerges(const TokenizerSpec& spec, const TextIndex& ids) {
  if (spec.merges.size() >= UINT32_MAX) return absl::InvalidArgumentError("merges: too many");
  const std::vector<bool> unformable = UnformableTokens(spec);
  std::string joined;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    joined.assign(left).append(right);
    TokenId parts[3];
    const std::string_view texts[3] = {left, right, joined};
    for (int k = 0; k < 3; ++k) {
      const auto it = ids.find(ToAbsl(texts[k]));
      if (it == ids.end()) return MergeError(i, texts[k], "is not in the vocabulary");
      parts[k] = it->second;
    }
    // A rule that would make a control token out of text is left out.
    if (unformable[parts[2]]) continue;
    merges_.Add(parts[0], parts[1], static_cast<uint32_t>(i), parts[2]);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddScoredMerges(const TokenizerSpec& spec, const TextIndex& ids) {
  if (spec.scores.size() != spec.tokens.size()) {
    return absl::InvalidArgumentError(
        StrCat("scores: ", spec.scores.size(), " values for ", spec.tokens.size(), " tokens"));
  }
  for (size_t id = 0; id < spec.scores.size(); ++id) {
    if (std::isnan(spec.scores[id])) {
      return absl::InvalidArgumentError(StrCat("scores[", id, "]: not a number"));
    }
  }
  // Equal scores share a rank: then the leftmost pair goes first, as in SentencePiece.
  std::vector<float> distinct = spec.scores;
  std::sort(distinct.begin(), distinct.end(), std::greater<float>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const auto& [text, id] : ids) {
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(distinct.begin(), distinct.end(), spec.scores[id], std::greater<float>()) -
        distinct.begin());
    // Any two tokens that spell this one may be joined to it.
    size_t cut = 0;
    for (NextCodePoint(FromAbsl(text), cut); cut < text.size();
         NextCodePoint(FromAbsl(text), cut)) {
      const auto left = ids.find(text.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(text.substr(cut));
      if (right != ids.end()) merges_.Add(left->second, right->second, rank, id);
    }
  }
  return absl::OkStatus();
}

void BpeModel::AddWords(const TokenizerSpec& spec, const TextIndex& ids) {
  std::vector<TokenId> result;
  for (const auto& [text, id] : ids) {
    std::string piece = byte_level_ ? BytesOfToken(FromAbsl(text)) : std::string(text);
    if (!spec.ignore_merges) {
      if (piece.size() > kLongestWordBytes) continue;
      result.clear();
      AppendSymbols(piece, &result);
      if (merges_.Apply(result.data(), result.size()) != 1 || result[0] != id) continue;
    }
    longest_word_ = std::max(longest_word_, piece.size());
    words_.emplace(std::move(piece), id);
  }
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
    if (it != words_.end()) {
      out->push_back(it->second);
      return;
    }
  }
  const size_t begin = out->size();
  AppendSymbols(piece, out);
  out->resize(begin + merges_.Apply(out->data() + begin, out->size() - begin));
}

}  // namespace trireme
