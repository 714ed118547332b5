#include "runtime/text/added_tokens.h"

#include "runtime/text/char_class.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

uint8_t FlagsAt(std::string_view text, size_t pos) {
  return CharTable::Get()[NextCodePoint(text, pos)];
}

size_t PreviousBoundary(std::string_view text, size_t pos) {
  do --pos;
  while ((static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && (FlagsAt(text, PreviousBoundary(text, begin)) & kWord)) return false;
  return end == text.size() || !(FlagsAt(text, end) & kWord);
}

size_t SpacesBefore(std::string_view text, size_t pos, size_t from) {
  while (pos > from) {
    const size_t previous = PreviousBoundary(text, pos);
    if (!(FlagsAt(text, previous) & kSpace)) break;
    pos = previous;
  }
  return pos;
}

size_t SpacesBehind(std::string_view text, size_t pos) {
  while (pos < text.size() && (FlagsAt(text, pos) & kSpace)) NextCodePoint(text, pos);
  return pos;
}

}  // namespace

void AddedTokenMatcher::Add(std::string_view content, TokenId id, Flags flags) {
  uint32_t node = 0;
  for (const unsigned char byte : content) {
    const auto [it, is_new] = children_.try_emplace(static_cast<uint64_t>(node) << 8 | byte,
                                                    static_cast<uint32_t>(token_of_node_.size()));
    if (is_new) token_of_node_.push_back(kNoToken);
    node = it->second;
  }
  starts_token_[static_cast<unsigned char>(content[0])] = true;
  token_of_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({id, flags});
}

const AddedTokenMatcher::Token* AddedTokenMatcher::LongestAt(const GuardedText& guarded, size_t pos,
                                                             bool allow_special,
                                                             size_t* end) const {
  const std::string_view text = guarded.text;
  const Token* longest = nullptr;
  uint32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    if (!guarded.protection.empty() && guarded.protection[i] != 0) allow_special = false;
    const auto it =
        children_.find(static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(text[i]));
    if (it == children_.end()) break;
    node = it->second;
    const int32_t index = token_of_node_[node];
    if (index == kNoToken) continue;
    const Token& token = tokens_[index];
    if (token.flags.special && !allow_special) continue;
    if (token.flags.single_word && !StandsAlone(text, pos, i + 1)) continue;
    longest = &token;
    *end = i + 1;
  }
  return longest;
}

bool AddedTokenMatcher::FindNext(const GuardedText& guarded, size_t from, bool allow_special,
                                 Match* match) const {
  if (empty()) return false;
  for (size_t pos = from; pos < guarded.text.size(); ++pos) {
    if (!starts_token_[static_cast<unsigned char>(guarded.text[pos])]) continue;
    size_t end = 0;
    const Token* token = LongestAt(guarded, pos, allow_special, &end);
    if (token == nullptr) continue;
    *match = {pos, end, token->id};
    if (token->flags.lstrip) match->begin = SpacesBefore(guarded.text, pos, from);
    if (token->flags.rstrip) match->end = SpacesBehind(guarded.text, end);
    return true;
  }
  return false;
}

}  // namespace trireme
