#include "runtime/text/normalizer.h"

#include "runtime/text/bpe_model.h"
#include "runtime/text/nfc.h"
#include "runtime/text/utf8.h"

namespace trireme {

void GuardedString::Append(std::string_view bytes, char mark, const GuardedText& source) {
  text.append(bytes);
  if (!source.protection.empty()) protection.append(bytes.size(), mark);
}

GuardedString WithValidUtf8(const GuardedText& source) {
  GuardedString out;
  if (source.protection.empty()) {
    AppendValidUtf8(source.text, false, &out.text);
    return out;
  }
  for (size_t pos = 0; pos < source.text.size();) {
    const Utf8Sequence s = ReadUtf8(source.text.substr(pos));
    const bool valid = s.kind == Utf8Sequence::Kind::kValid;
    out.Append(valid ? source.text.substr(pos, s.length) : kReplacementCharacter,
               source.protection[pos], source);
    pos += s.length;
  }
  return out;
}

GuardedString WithNfc(const GuardedText& source) {
  if (source.protection.empty()) return {ToNfc(source.text), {}};
  GuardedString out;
  for (size_t begin = 0; begin < source.text.size();) {
    // Code points below U+0300 never join with what stands before them: a stretch ends there.
    size_t end = begin;
    NextCodePoint(source.text, end);
    while (end < source.text.size() && static_cast<unsigned char>(source.text[end]) >= 0xCC) {
      NextCodePoint(source.text, end);
    }
    const GuardedText stretch = source.Slice(begin, end);
    const std::string normal = ToNfc(stretch.text);
    if (normal == stretch.text) {
      out.text.append(stretch.text);
      out.protection.append(stretch.protection);
    } else {
      const bool any = stretch.protection.find_first_not_of('\0') != std::string_view::npos;
      out.Append(normal, any ? 1 : 0, source);
    }
    begin = end;
  }
  return out;
}

GuardedString WithSpaceMarks(const GuardedText& source, bool prefix) {
  GuardedString out;
  out.text.reserve(source.text.size() + source.text.size() / 2 + kSpaceMark.size());
  if (prefix) out.Append(kSpaceMark, 0, source);
  for (size_t pos = 0; pos < source.text.size();) {
    size_t end = source.text.find(' ', pos);
    if (end == std::string_view::npos) end = source.text.size();
    const GuardedText run = source.Slice(pos, end);
    out.text.append(run.text);
    out.protection.append(run.protection);
    if (end == source.text.size()) break;
    out.Append(kSpaceMark, source.protection.empty() ? 0 : source.protection[end], source);
    pos = end + 1;
  }
  return out;
}

}  // namespace trireme
