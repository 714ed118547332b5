#include "runtime/text/jinja/text.h"

#include <algorithm>
#include <cstring>


namespace trireme::jinja {

void TextBuilder::AddUser(size_t begin, size_t end) {
  if (begin == end) return;
  if (!user_.empty() && user_.back().end == begin) {
    user_.back().end = end;
  } else {
    user_.push_back({begin, end});
  }
}

void TextBuilder::Append(std::string_view bytes, bool user) {
  const size_t limit = rt_.limits().max_output_bytes;
  if (bytes.size() > limit || bytes_.size() > limit - bytes.size()) rt_.Exhausted("output bytes");
  rt_.ChargeBytes(bytes.size());
  if (user) AddUser(bytes_.size(), bytes_.size() + bytes.size());
  bytes_.append(bytes);
}

void TextBuilder::AppendRange(const Str& text, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  Append(text.bytes.substr(begin, end - begin));
  const ByteRange* const last = text.user + text.num_user;
  const ByteRange* range = std::partition_point(
      text.user, last, [begin](const ByteRange& r) { return r.end <= begin; });
  for (; range != last && range->begin < end; ++range) {
    rt_.Charge(1);
    AddUser(base + std::max(range->begin, begin) - begin, base + std::min(range->end, end) - begin);
  }
}

void TextBuilder::AppendRepeated(std::string_view bytes, size_t times) {
  for (size_t i = 0; i < times; ++i) Append(bytes);
}

Value TextBuilder::Finish(bool markup) {
  const Value value = rt_.NewString(bytes_);
  // The string was made one line above and is not shared yet.
  Str& str = const_cast<Str&>(value.str());
  str.markup = markup;
  if (!user_.empty()) {
    void* ranges = rt_.memory()->allocate(user_.size() * sizeof(ByteRange), alignof(ByteRange));
    std::memcpy(ranges, user_.data(), user_.size() * sizeof(ByteRange));
    str.user = static_cast<ByteRange*>(ranges);
    str.num_user = user_.size();
  }
  return value;
}

Value Substring(Runtime& rt, const Str& text, size_t begin, size_t end) {
  if (begin == 0 && end == text.bytes.size()) return Value::String(&text);
  rt.Charge(1);
  Str* part = rt.heap().New<Str>();
  part->bytes = text.bytes.substr(begin, end - begin);
  if (text.ascii()) {
    part->num_chars = part->bytes.size();
  } else {
    rt.ChargeBytes(part->bytes.size());
    part->num_chars = CountChars(part->bytes);
  }
  part->markup = text.markup;
  const ByteRange* const last = text.user + text.num_user;
  const ByteRange* const first = std::partition_point(
      text.user, last, [begin](const ByteRange& r) { return r.end <= begin; });
  const ByteRange* const stop =
      std::partition_point(first, last, [end](const ByteRange& r) { return r.begin < end; });
  part->num_user = static_cast<size_t>(stop - first);
  if (begin == end || part->num_user == 0) {
    part->num_user = 0;
    return Value::String(part);
  }
  ByteRange* ranges = &part->whole;
  if (part->num_user > 1) {
    rt.Charge(part->num_user);
    ranges = static_cast<ByteRange*>(
        rt.memory()->allocate(part->num_user * sizeof(ByteRange), alignof(ByteRange)));
  }
  for (size_t i = 0; i < part->num_user; ++i) {
    ranges[i] = {std::max(first[i].begin, begin) - begin, std::min(first[i].end, end) - begin};
  }
  part->user = ranges;
  return Value::String(part);
}

Value CharRange(Runtime& rt, const Str& text, size_t begin, size_t end) {
  end = std::max(begin, end);
  if (text.ascii()) return Substring(rt, text, begin, end);
  rt.ChargeBytes(text.bytes.size());
  const size_t first = CharOffset(text.bytes, begin);
  return Substring(rt, text, first, first + CharOffset(text.bytes.substr(first), end - begin));
}

bool IsUser(const Str& text, size_t begin, size_t end) {
  const ByteRange* const last = text.user + text.num_user;
  const ByteRange* const range = std::partition_point(
      text.user, last, [begin](const ByteRange& r) { return r.end <= begin; });
  return range != last && range->begin < end;
}

Value Concat(Runtime& rt, const Str& a, const Str& b) {
  TextBuilder out(rt);
  out.Append(a);
  out.Append(b);
  return out.Finish(a.markup && b.markup);
}

Value Repeat(Runtime& rt, const Str& text, int64_t times) {
  if (times <= 0 || text.bytes.empty()) return rt.NewString("");
  if (static_cast<uint64_t>(times) > rt.limits().max_output_bytes / text.bytes.size()) {
    rt.Exhausted("string bytes");
  }
  TextBuilder out(rt);
  for (int64_t i = 0; i < times; ++i) out.Append(text);
  return out.Finish(text.markup);
}

Value Replace(Runtime& rt, const Str& text, const Str& old, const Str& replacement, int64_t count) {
  TextBuilder out(rt);
  size_t done = 0;
  for (; count != 0; --count) {
    // An empty `old` matches before every code point and at the end.
    const size_t at = Find(rt, text.bytes, old.bytes, done);
    if (at == std::string_view::npos) break;
    out.AppendRange(text, done, at);
    out.Append(replacement);
    done = at + old.bytes.size();
    if (!old.bytes.empty()) continue;
    if (at == text.bytes.size()) break;
    NextChar(text.bytes, &done);
    out.AppendRange(text, at, done);
  }
  out.AppendRange(text, done, text.bytes.size());
  return out.Finish(text.markup);
}

Value Escape(Runtime& rt, const Value& text) {
  if (text.str().markup) return text;
  const Value escaped = MapChars(rt, text.str(), [](char32_t c, std::string* out) {
    switch (c) {
      case '&': out->append("&amp;"); break;
      case '<': out->append("&lt;"); break;
      case '>': out->append("&gt;"); break;
      case '\'': out->append("&#39;"); break;
      case '"': out->append("&#34;"); break;
      default: AppendChar(c, out);
    }
  });
  Str* marked = rt.heap().New<Str>(escaped.str());
  if (marked->user == &escaped.str().whole) marked->user = &marked->whole;
  marked->markup = true;
  return Value::String(marked);
}

size_t Find(Runtime& rt, std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // memmem is linear in the worst case, unlike string_view::find. Its preparation is charged too.
  const void* found =
      memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  const size_t at = found == nullptr
                        ? text.size()
                        : static_cast<size_t>(static_cast<const char*>(found) - text.data());
  rt.ChargeBytes(at - from + needle.size());
  return found == nullptr ? std::string_view::npos : at;
}

size_t FindLast(Runtime& rt, std::string_view text, std::string_view needle) {
  if (needle.size() > text.size()) return std::string_view::npos;
  size_t looked_at = 0;
  for (size_t at = text.size() - needle.size() + 1; at-- > 0;) {
    if (needle.empty()) return at;
    ++looked_at;
    if (text[at] != needle[0]) continue;
    rt.ChargeBytes(needle.size());
    if (text.compare(at, needle.size(), needle) != 0) continue;
    rt.ChargeBytes(looked_at);
    return at;
  }
  rt.ChargeBytes(looked_at);
  return std::string_view::npos;
}

}  // namespace trireme::jinja
