#include "runtime/base/json_writer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>

namespace trireme {
namespace {

bool NeedsEscape(unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; }

void AppendEscape(std::string* out, unsigned char c) {
  constexpr char kHex[] = "0123456789abcdef";
  *out += '\\';
  switch (c) {
    case '"':
    case '\\':
      *out += static_cast<char>(c);
      return;
    case '\n':
      *out += 'n';
      return;
    case '\r':
      *out += 'r';
      return;
    case '\t':
      *out += 't';
      return;
    case '\b':
      *out += 'b';
      return;
    case '\f':
      *out += 'f';
      return;
    default:
      break;
  }
  *out += "u00";
  *out += kHex[c >> 4];
  *out += kHex[c & 15];
}

}  // namespace

void AppendJsonString(std::string* out, std::string_view text) {
  *out += '"';
  size_t copied = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (!NeedsEscape(c)) continue;
    out->append(text, copied, i - copied);
    AppendEscape(out, c);
    copied = i + 1;
  }
  out->append(text, copied);
  *out += '"';
}

void JsonWriter::Separate() {
  if (comma_) *out_ += ',';
  comma_ = true;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  *out_ += bracket;
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  *out_ += bracket;
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  AppendJsonString(out_, key);
  *out_ += ':';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view text) {
  Separate();
  AppendJsonString(out_, text);
  return *this;
}

JsonWriter& JsonWriter::Raw(std::string_view json) {
  Separate();
  *out_ += json;
  return *this;
}

JsonWriter& JsonWriter::Int(int64_t value) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Raw({text, static_cast<size_t>(end - text)});
}

JsonWriter& JsonWriter::Thousandths(int64_t value) {
  const uint64_t magnitude =
      value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string text = value < 0 ? "-" : "";
  text += std::to_string(magnitude / 1000);
  if (const uint64_t rest = magnitude % 1000; rest != 0) {
    text += {'.', static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
             static_cast<char>('0' + rest % 10)};
  }
  return Raw(text);
}

JsonWriter& JsonWriter::Float(float value) {
  if (std::isnan(value)) value = 0;
  value =
      std::clamp(value, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Raw({text, static_cast<size_t>(end - text)});
}

}  // namespace trireme
