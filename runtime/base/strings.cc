#include "runtime/base/strings.h"

#include <system_error>

#include <cstdint>
#include <cstdio>

namespace trireme {
namespace {

// The bytes of the UTF-8 character that begins at `pos`, and its code point; 0 when there is none
// (truncated, overlong, a surrogate, above U+10FFFF).
size_t DecodeOne(std::string_view text, size_t pos, char32_t* out) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[pos + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    *out = lead;
    return 1;
  }
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || length > text.size() - pos) return 0;
  char32_t c = lead & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    c = c << 6 | (byte(i) & 0x3f);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kSmallest[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
  *out = c;
  return length;
}

// Moves the cursor, rewrites the line, or turns its direction around.
bool IsControl(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

void AppendEscaped(std::string* out, std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      *out += "\\n";
    } else if (c == '\r') {
      *out += "\\r";
    } else if (c == '\t') {
      *out += "\\t";
    } else {
      *out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
}

}  // namespace

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    char32_t c = 0;
    const size_t length = DecodeOne(text, pos, &c);
    const std::string_view bytes = text.substr(pos, length == 0 ? 1 : length);
    if (pos + bytes.size() > max_bytes) return out + "...";
    if (length == 0 || IsControl(c)) {
      AppendEscaped(&out, bytes);
    } else if (c == '\\') {
      out += "\\\\";
    } else {
      out += bytes;
    }
    pos += bytes.size();
  }
  return out;
}

std::string SizeText(int64_t bytes) {
  auto size = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (size < 1024) break;
    size /= 1024;
    unit = larger;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.4g %s", size, unit);
  return text;
}

std::string ErrnoText(int error) { return std::generic_category().message(error); }

}  // namespace trireme
