// The alphabet of byte-level vocabularies (GPT-2): every byte has a printable character, so that
// tokens can be stored as text. Printable Latin-1 stands for itself, the other 68 bytes for U+0100,
// U+0101, ... in order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// Appends the bytes that `token` (valid UTF-8) stands for; a token with a character outside the
// alphabet stands for itself. They are never more than the token's own.
void AppendBytesOfToken(std::string_view token, std::string* out);

// The stored form of raw bytes.
std::string TokenOfBytes(std::string_view bytes);

}  // namespace trireme
