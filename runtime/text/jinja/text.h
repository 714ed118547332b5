// Operations on text that keep its provenance (Str::user).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/jinja/runtime.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {

// Collects text with its provenance: the output of a template, a macro, or a string operation.
class TextBuilder {
 public:
  explicit TextBuilder(Runtime& rt) : rt_(rt) {}

  void Append(const Str& text) { AppendRange(text, 0, text.bytes.size()); }
  void AppendRange(const Str& text, size_t begin, size_t end);  // bytes
  void Append(std::string_view bytes, bool user = false);
  void AppendRepeated(std::string_view bytes, size_t times);

  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  const std::vector<ByteRange>& user() const { return user_; }
  Value Finish(bool markup = false);

 private:
  void AddUser(size_t begin, size_t end);
  Runtime& rt_;
  std::string bytes_;
  std::vector<ByteRange> user_;  // sorted, disjoint, neighbours merged
};

// Part [begin, end) in bytes, without a copy.
Value Substring(Runtime& rt, const Str& text, size_t begin, size_t end);
// Part [begin, end) in code points.
Value CharRange(Runtime& rt, const Str& text, size_t begin, size_t end);

// True when any byte of [begin, end) is the request's.
bool IsUser(const Str& text, size_t begin, size_t end);
// Calls piece(begin, end, user) for the runs of equal provenance that make up `text`.
template <typename Piece>
void ForEachPiece(const Str& text, Piece piece) {
  size_t pos = 0;
  for (size_t i = 0; i < text.num_user; ++i) {
    if (text.user[i].begin > pos) piece(pos, text.user[i].begin, false);
    piece(text.user[i].begin, text.user[i].end, true);
    pos = text.user[i].end;
  }
  if (pos < text.bytes.size()) piece(pos, text.bytes.size(), false);
}

// Maps every code point: map(c, &bytes) appends what replaces it.
template <typename Map>
Value MapChars(Runtime& rt, const Str& text, Map map) {
  TextBuilder out(rt);
  std::string mapped;
  ForEachPiece(text, [&](size_t begin, size_t end, bool user) {
    mapped.clear();
    for (size_t pos = begin; pos < end;) map(NextChar(text.bytes, &pos), &mapped);
    out.Append(mapped, user);
  });
  return out.Finish(text.markup);
}

Value Concat(Runtime& rt, const Str& a, const Str& b);
Value Repeat(Runtime& rt, const Str& text, int64_t times);
// Replaces at most `count` occurrences (all when negative).
Value Replace(Runtime& rt, const Str& text, const Str& old, const Str& replacement, int64_t count);
// &, <, >, ' and " become entities; the result is markup. Markup is returned as it is.
Value Escape(Runtime& rt, const Value& text);

// Byte offsets, in linear time; npos when absent.
size_t Find(Runtime& rt, std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLast(Runtime& rt, std::string_view text, std::string_view needle);

}  // namespace trireme::jinja
