#include "runtime/text/byte_alphabet.h"

#include <array>

#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr int kNumCharacters = 256 + 68;

constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<char32_t, 256> character_of{};
  std::array<int16_t, kNumCharacters> byte_of{};  // -1: not in the alphabet

  constexpr Alphabet() {
    byte_of.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      character_of[byte] = IsPrintable(byte) ? static_cast<char32_t>(byte) : next++;
      byte_of[character_of[byte]] = static_cast<int16_t>(byte);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

void AppendBytesOfToken(std::string_view token, std::string* out) {
  const size_t begin = out->size();
  for (size_t pos = 0; pos < token.size();) {
    const char32_t c = NextCodePoint(token, pos);
    if (c >= kNumCharacters || kAlphabet.byte_of[c] < 0) {
      out->resize(begin);
      out->append(token);
      return;
    }
    out->push_back(static_cast<char>(kAlphabet.byte_of[c]));
  }
}

std::string TokenOfBytes(std::string_view bytes) {
  std::string token;
  for (const unsigned char byte : bytes) AppendUtf8(kAlphabet.character_of[byte], &token);
  return token;
}

}  // namespace trireme
