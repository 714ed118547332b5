// Code points as Python's str sees them. All text here is valid UTF-8 (checked where it enters).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace trireme::jinja {

// Decodes the code point at `*pos` and moves `*pos` past it. Requires *pos < text.size().
char32_t NextChar(std::string_view text, size_t* pos);
// Byte offset of the start of the code point that ends at `pos`. Requires pos > 0.
size_t PreviousChar(std::string_view text, size_t pos);
void AppendChar(char32_t c, std::string* out);

bool IsValidUtf8(std::string_view text);
size_t CountChars(std::string_view text);
// Byte offset of code point number `index` (text.size() when beyond the end).
size_t CharOffset(std::string_view text, size_t index);

// Python's str.isspace, str.isalpha ... for one code point, from the Unicode character database.
bool IsSpace(char32_t c);
bool IsLineBreak(char32_t c);  // where str.splitlines cuts
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
bool IsPrintable(char32_t c);
inline bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
inline bool IsWord(char32_t c) { return IsAlnum(c) || c == U'_'; }
inline bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || IsTitle(c); }

// Appends the case-mapped form of `c` (simple mappings, and the expansion of U+00DF).
void AppendUpper(char32_t c, std::string* out);
void AppendLower(char32_t c, std::string* out);
void AppendTitle(char32_t c, std::string* out);

// Bounds [*begin, *end) of `text` without the leading and trailing white space.
void TrimSpace(std::string_view text, bool left, bool right, size_t* begin, size_t* end);

}  // namespace trireme::jinja
