// Finds added tokens (special and user-defined ones) in text, leftmost-longest, before anything
// else looks at it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/ids.h"

namespace trireme {

// Text together with what may not be markup in it. `protection` is empty (nothing is protected) or
// has one character per byte of `text`, nonzero where the byte came from a user: a special token
// may not cover such a byte.
struct GuardedText {
  std::string_view text;
  std::string_view protection;

  GuardedText Slice(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin),
            protection.empty() ? protection : protection.substr(begin, end - begin)};
  }
};

// Immutable and thread-safe after the last Add.
class AddedTokenMatcher {
 public:
  struct Flags {
    bool special = false;
    bool lstrip = false, rstrip = false;  // takes the white space on that side with it
    bool single_word = false;             // not where a word character stands beside it
  };
  // `content` must not be empty. A later token of the same content replaces the earlier one.
  void Add(std::string_view content, TokenId id, Flags flags);
  bool empty() const { return tokens_.empty(); }

  struct Match {
    size_t begin, end;  // with stripped white space; begin >= the `from` of the search
    TokenId id;
  };
  // The first match at or after `from` (a code point boundary); false when there is none. Special
  // tokens only where `allow_special`. Each position costs at most the length of the longest token.
  bool FindNext(const GuardedText& text, size_t from, bool allow_special, Match* match) const;

 private:
  struct Token {
    TokenId id;
    Flags flags;
  };
  const Token* LongestAt(const GuardedText& text, size_t pos, bool allow_special,
                         size_t* end) const;

  static constexpr int32_t kNoToken = -1;
  std::vector<Token> tokens_;
  std::vector<int32_t> token_of_node_ = {kNoToken};   // trie; node 0 is the root
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node
  bool starts_token_[256] = {};
};

}  // namespace trireme
