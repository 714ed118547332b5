#include "runtime/text/utf8.h"

#include <cstring>

namespace trireme {
namespace {

// Length of the run of ASCII at the front, eight bytes at a time.
size_t AsciiPrefix(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Sequence ReadUtf8(std::string_view text) {
  using Kind = Utf8Sequence::Kind;
  const unsigned char lead = text[0];
  if (lead < 0x80) return {Kind::kValid, 1, lead};
  // Bounds of the second byte: they exclude overlong forms, surrogates and values above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  int length;
  char32_t c;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    c = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    c = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    c = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Kind::kInvalid, 1, 0};
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) == text.size()) {
      return {Kind::kIncomplete, static_cast<uint8_t>(i), 0};
    }
    const unsigned char b = text[i];
    if (b < low || b > high) return {Kind::kInvalid, static_cast<uint8_t>(i), 0};
    c = c << 6 | (b & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kValid, static_cast<uint8_t>(length), c};
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto put = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  while (true) {
    text.remove_prefix(AsciiPrefix(text));
    if (text.empty()) return true;
    const Utf8Sequence s = ReadUtf8(text);
    if (s.kind != Utf8Sequence::Kind::kValid) return false;
    text.remove_prefix(s.length);
  }
}

size_t AppendValidUtf8(std::string_view bytes, bool keep_incomplete, std::string* out) {
  size_t pos = 0;
  while (pos < bytes.size()) {
    const size_t ascii = AsciiPrefix(bytes.substr(pos));
    out->append(bytes, pos, ascii);
    pos += ascii;
    if (pos == bytes.size()) break;
    const Utf8Sequence s = ReadUtf8(bytes.substr(pos));
    if (s.kind == Utf8Sequence::Kind::kIncomplete && keep_incomplete) break;
    if (s.kind == Utf8Sequence::Kind::kValid) {
      out->append(bytes, pos, s.length);
    } else {
      out->append(kReplacementCharacter);
    }
    pos += s.length;
  }
  return pos;
}

std::string LossyUtf8(std::string_view bytes) {
  std::string out;
  AppendValidUtf8(bytes, /*keep_incomplete=*/false, &out);
  return out;
}

}  // namespace trireme
