#include "runtime/text/char_class.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace trireme {
namespace {

struct CategoryRange {
  char32_t first, last;
  utf8proc_category_t category;
};

// Letters, marks and numbers assigned by Unicode 15.1 and 16.0, which older releases of utf8proc
// report as unassigned. Marks are all "Mn" here: only the class matters.
constexpr CategoryRange kSinceUnicode15[] = {
    {0x897, 0x897, UTF8PROC_CATEGORY_MN},     {0x1C89, 0x1C89, UTF8PROC_CATEGORY_LU},
    {0x1C8A, 0x1C8A, UTF8PROC_CATEGORY_LL},   {0xA7CB, 0xA7CC, UTF8PROC_CATEGORY_LU},
    {0xA7CD, 0xA7CD, UTF8PROC_CATEGORY_LL},   {0xA7DA, 0xA7DA, UTF8PROC_CATEGORY_LU},
    {0xA7DB, 0xA7DB, UTF8PROC_CATEGORY_LL},   {0xA7DC, 0xA7DC, UTF8PROC_CATEGORY_LU},
    {0x105C0, 0x105F3, UTF8PROC_CATEGORY_LO}, {0x10D40, 0x10D49, UTF8PROC_CATEGORY_ND},
    {0x10D4A, 0x10D4D, UTF8PROC_CATEGORY_LO}, {0x10D4E, 0x10D4E, UTF8PROC_CATEGORY_LM},
    {0x10D4F, 0x10D4F, UTF8PROC_CATEGORY_LO}, {0x10D50, 0x10D65, UTF8PROC_CATEGORY_LU},
    {0x10D69, 0x10D6D, UTF8PROC_CATEGORY_MN}, {0x10D6F, 0x10D6F, UTF8PROC_CATEGORY_LM},
    {0x10D70, 0x10D85, UTF8PROC_CATEGORY_LL}, {0x10EC2, 0x10EC4, UTF8PROC_CATEGORY_LO},
    {0x10EFC, 0x10EFC, UTF8PROC_CATEGORY_MN}, {0x11380, 0x11389, UTF8PROC_CATEGORY_LO},
    {0x1138B, 0x1138B, UTF8PROC_CATEGORY_LO}, {0x1138E, 0x1138E, UTF8PROC_CATEGORY_LO},
    {0x11390, 0x113B5, UTF8PROC_CATEGORY_LO}, {0x113B7, 0x113B7, UTF8PROC_CATEGORY_LO},
    {0x113B8, 0x113C0, UTF8PROC_CATEGORY_MN}, {0x113C2, 0x113C2, UTF8PROC_CATEGORY_MN},
    {0x113C5, 0x113C5, UTF8PROC_CATEGORY_MN}, {0x113C7, 0x113CA, UTF8PROC_CATEGORY_MN},
    {0x113CC, 0x113D0, UTF8PROC_CATEGORY_MN}, {0x113D1, 0x113D1, UTF8PROC_CATEGORY_LO},
    {0x113D2, 0x113D2, UTF8PROC_CATEGORY_MN}, {0x113D3, 0x113D3, UTF8PROC_CATEGORY_LO},
    {0x113E1, 0x113E2, UTF8PROC_CATEGORY_MN}, {0x116D0, 0x116E3, UTF8PROC_CATEGORY_ND},
    {0x11BC0, 0x11BE0, UTF8PROC_CATEGORY_LO}, {0x11BF0, 0x11BF9, UTF8PROC_CATEGORY_ND},
    {0x11F5A, 0x11F5A, UTF8PROC_CATEGORY_MN}, {0x13460, 0x143FA, UTF8PROC_CATEGORY_LO},
    {0x16100, 0x1611D, UTF8PROC_CATEGORY_LO}, {0x1611E, 0x1612F, UTF8PROC_CATEGORY_MN},
    {0x16130, 0x16139, UTF8PROC_CATEGORY_ND}, {0x16D40, 0x16D42, UTF8PROC_CATEGORY_LM},
    {0x16D43, 0x16D6A, UTF8PROC_CATEGORY_LO}, {0x16D6B, 0x16D6C, UTF8PROC_CATEGORY_LM},
    {0x16D70, 0x16D79, UTF8PROC_CATEGORY_ND}, {0x18CFF, 0x18CFF, UTF8PROC_CATEGORY_LO},
    {0x1CCF0, 0x1CCF9, UTF8PROC_CATEGORY_ND}, {0x1E5D0, 0x1E5ED, UTF8PROC_CATEGORY_LO},
    {0x1E5EE, 0x1E5EF, UTF8PROC_CATEGORY_MN}, {0x1E5F0, 0x1E5F0, UTF8PROC_CATEGORY_LO},
    {0x1E5F1, 0x1E5FA, UTF8PROC_CATEGORY_ND}, {0x2EBF0, 0x2EE5D, UTF8PROC_CATEGORY_LO},
};

utf8proc_category_t Category(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category != UTF8PROC_CATEGORY_CN) return category;
  const auto range =
      std::lower_bound(std::begin(kSinceUnicode15), std::end(kSinceUnicode15), c,
                       [](const CategoryRange& r, char32_t x) { return r.last < x; });
  return range != std::end(kSinceUnicode15) && c >= range->first ? range->category : category;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Symbols with the Alphabetic property: circled, squared and negative Latin letters.
bool IsAlphabeticSymbol(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

uint8_t FlagsOf(char32_t c) {
  uint8_t flags = 0;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      flags = kLetter | kUpper | kWord;
      break;
    case UTF8PROC_CATEGORY_LL:
      flags = kLetter | kLower | kWord;
      break;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      flags = kLetter | kUpper | kLower | kWord;
      break;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      flags = kUpper | kLower | kWord;
      break;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      flags = kNumber | kDigit | kWord;
      break;
    case UTF8PROC_CATEGORY_NO:
      flags = kNumber | kDigit;
      break;
    case UTF8PROC_CATEGORY_PC:
      flags = kWord;
      break;
    default:
      break;
  }
  if (IsAlphabeticSymbol(c) || c == 0x200C || c == 0x200D) flags |= kWord;
  if (IsWhiteSpace(c)) flags |= kSpace;
  if (c == '\r' || c == '\n') flags |= kNewline;
  if ((c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6)) flags |= kDigit;
  return flags;
}

}  // namespace

const CharTable& CharTable::Get() {
  static const CharTable* const table = new CharTable();
  return *table;
}

CharTable::CharTable() {
  std::map<Page, uint16_t> known;
  for (char32_t high = 0; high < page_of_.size(); ++high) {
    Page page{};
    // Planes 4 to 13 hold nothing, 15 and 16 are for private use: three quarters of the time saved.
    const char32_t plane = high >> 8;
    if (plane < 4 || plane == 14) {
      for (char32_t low = 0; low < page.size(); ++low) page[low] = FlagsOf(high << 8 | low);
    }
    const auto [it, is_new] = known.emplace(page, static_cast<uint16_t>(pages_.size()));
    if (is_new) pages_.push_back(page);
    page_of_[high] = it->second;
  }
}

}  // namespace trireme
