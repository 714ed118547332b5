#include "runtime/text/pre_tokenizer.h"

#include "runtime/text/utf8.h"

namespace trireme {

PieceScanner::PieceScanner(PreTokenizer kind, std::string_view text)
    : table_(CharTable::Get()),
      kind_(kind),
      whole_(text),
      text_(kind == PreTokenizer::kSmolLM ? text.substr(0, 0) : text) {}

std::string_view PieceScanner::Next() {
  const size_t begin = pos_;
  switch (kind_) {
    case PreTokenizer::kNone:
      pos_ = whole_.size();
      break;
    case PreTokenizer::kGpt2:
      pos_ = Gpt2End(begin);
      break;
    case PreTokenizer::kSmolLM:
      pos_ = SmolLMEnd(begin);
      break;
    case PreTokenizer::kLlama3:
    case PreTokenizer::kCl100k:
      pos_ = Llama3End(begin, 3);
      break;
    case PreTokenizer::kQwen2:
      pos_ = Llama3End(begin, 1);
      break;
    case PreTokenizer::kO200k:
      pos_ = O200kEnd(begin);
      break;
  }
  return whole_.substr(begin, pos_ - begin);
}

PieceScanner::Char PieceScanner::At(size_t pos) const {
  if (pos == text_.size()) return {0, kSpace, pos};
  const char32_t c = NextCodePoint(text_, pos);
  return {c, table_[c], pos};
}

size_t PieceScanner::SkipAll(uint8_t any_of, size_t pos) const {
  while (pos < text_.size()) {
    const Char c = At(pos);
    if (!(c.flags & any_of)) break;
    pos = c.end;
  }
  return pos;
}

size_t PieceScanner::SkipNone(uint8_t none_of, size_t pos) const {
  while (pos < text_.size()) {
    const Char c = At(pos);
    if (c.flags & none_of) break;
    pos = c.end;
  }
  return pos;
}

size_t PieceScanner::SkipNumbers(size_t pos, int at_most) const {
  for (; at_most > 0; --at_most) {
    const Char c = At(pos);
    if (!(c.flags & kNumber)) break;
    pos = c.end;
  }
  return pos;
}

size_t PieceScanner::Contraction(size_t pos, bool ignore_case) const {
  if (At(pos).c != '\'') return pos;
  const auto letter = [&](const Char& c) -> char32_t {
    if (!ignore_case) return c.c;
    if (c.c == 0x17F) return 's';  // LATIN SMALL LETTER LONG S folds to s
    return c.c >= 'A' && c.c <= 'Z' ? c.c + ('a' - 'A') : c.c;
  };
  const Char first = At(pos + 1);
  switch (letter(first)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return first.end;
    case 'r':
    case 'v':
    case 'l': {
      const Char second = At(first.end);
      return letter(second) == (letter(first) == 'l' ? U'l' : U'e') ? second.end : pos;
    }
    default:
      return pos;
  }
}

size_t PieceScanner::Spaces(size_t pos, size_t end) const {
  if (end == text_.size()) return end;
  // A non-space follows: the last space is left to it, unless it is the only one.
  size_t last = end - 1;
  while ((static_cast<unsigned char>(text_[last]) & 0xC0) == 0x80) --last;
  return last > pos ? last : end;
}

size_t PieceScanner::LinesOrSpaces(size_t pos) const {
  size_t end = pos, behind_last_newline = pos;
  while (end < text_.size()) {
    const Char c = At(end);
    if (!(c.flags & kSpace)) break;
    end = c.end;
    if (c.flags & kNewline) behind_last_newline = end;
  }
  return behind_last_newline > pos ? behind_last_newline : Spaces(pos, end);
}

size_t PieceScanner::Gpt2End(size_t pos) const {
  if (const size_t end = Contraction(pos, false); end > pos) return end;
  Char c = At(pos);
  if (c.c == ' ') {
    const Char next = At(c.end);
    if (!(next.flags & kSpace)) c = next;
  }
  if (c.flags & kLetter) return SkipAll(kLetter, c.end);
  if (c.flags & kNumber) return SkipAll(kNumber, c.end);
  if (!(c.flags & kSpace)) return SkipNone(kSpace | kLetter | kNumber, c.end);
  return Spaces(pos, SkipAll(kSpace, pos));
}

size_t PieceScanner::SmolLMEnd(size_t pos) {
  if (pos == text_.size()) {  // the next stretch: one number, or everything up to the next number
    text_ = whole_;
    const Char c = At(pos);
    const size_t end = c.flags & kDigit ? c.end : SkipNone(kDigit, c.end);
    text_ = whole_.substr(0, end);
  }
  return Gpt2End(pos);
}

size_t PieceScanner::Llama3End(size_t pos, int max_numbers) const {
  if (const size_t end = Contraction(pos, true); end > pos) return end;
  const Char c = At(pos);
  if (c.flags & kLetter) return SkipAll(kLetter, c.end);
  if (c.flags & kNumber) return SkipNumbers(pos, max_numbers);
  const Char next = At(c.end);
  if (!(c.flags & kNewline) && (next.flags & kLetter)) return SkipAll(kLetter, next.end);
  constexpr uint8_t kNotSymbol = kSpace | kLetter | kNumber;
  const Char& symbol = c.c == ' ' ? next : c;
  if (!(symbol.flags & kNotSymbol)) return SkipAll(kNewline, SkipNone(kNotSymbol, symbol.end));
  return LinesOrSpaces(pos);
}

PieceScanner::CaseRun PieceScanner::ScanCase(size_t pos) const {
  CaseRun run{pos, pos};
  while (true) {
    const Char c = At(run.upper_end);
    if (!(c.flags & kUpper)) {
      // A lower-case letter: L+ goes on from here. Otherwise U* gives back down to its last member
      // that L has too.
      if (c.flags & kLower) run.lower_end = SkipAll(kLower, c.end);
      return run;
    }
    run.upper_end = c.end;
    if (c.flags & kLower) run.lower_end = c.end;
  }
}

// [^\r\n\p{L}\p{N}]?U*L+ , else [^\r\n\p{L}\p{N}]?U+L* ; `pos` when neither matches.
size_t PieceScanner::O200kWord(size_t pos) const {
  const Char c = At(pos);
  const bool has_prefix = !(c.flags & (kNewline | kLetter | kNumber));
  const size_t begin = has_prefix ? c.end : pos;
  const CaseRun run = ScanCase(begin);
  if (run.lower_end > begin) return run.lower_end;
  // A mark can be the optional prefix, and where that leads nowhere, a word itself.
  if (has_prefix && (c.flags & kLower)) return ScanCase(pos).lower_end;
  return run.upper_end > begin ? run.upper_end : pos;
}

size_t PieceScanner::O200kEnd(size_t pos) const {
  if (const size_t end = O200kWord(pos); end > pos) return Contraction(end, true);
  const Char c = At(pos);
  if (c.flags & kNumber) return SkipNumbers(pos, 3);
  constexpr uint8_t kNotSymbol = kSpace | kLetter | kNumber;
  const Char symbol = c.c == ' ' ? At(c.end) : c;
  if (symbol.flags & kNotSymbol) return LinesOrSpaces(pos);
  size_t end = SkipNone(kNotSymbol, symbol.end);
  while (end < text_.size() && (text_[end] == '\r' || text_[end] == '\n' || text_[end] == '/'))
    ++end;
  return end;
}

}  // namespace trireme
