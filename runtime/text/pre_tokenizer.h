// Cuts text into the pieces within which BPE merges. Each kind is a hand-written scanner with the
// meaning of the published regular expression, in one forward pass; a run of letters or of spaces
// of any length costs linear time.
#pragma once

#include <string_view>

#include "runtime/text/char_class.h"

namespace trireme {

// The names of the published tokenizers.
enum class PreTokenizer {
  kNone,    // the whole text is one piece
  kGpt2,    // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kSmolLM,  // every number character alone, then kGpt2 on what lies between
  kLlama3,  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
            // ?[^\s\p{L}\p{N}]+[\r\n]*| \s*[\r\n]+|\s+(?!\S)|\s+
  kQwen2,   // kLlama3 with \p{N} in place of \p{N}{1,3}
  kCl100k,  // as published in tokenizer.json files: the same pieces as kLlama3
  kO200k,   // kLlama3 with words split where case changes, contractions kept with their word, and
            // [\r\n/]*
};

// Iterates over the pieces: they are not empty and their concatenation is the text.
class PieceScanner {
 public:
  // `text`: valid UTF-8 that outlives the scanner and the pieces.
  PieceScanner(PreTokenizer kind, std::string_view text);

  bool done() const { return pos_ == whole_.size(); }
  std::string_view Next();  // precondition: !done()

 private:
  struct Char {
    char32_t c;
    uint8_t flags;
    size_t end;  // offset behind it
  };
  Char At(size_t pos) const;  // the end of the text reads as a space
  size_t SkipAll(uint8_t any_of,
                 size_t pos) const;  // behind the run of characters with any of these flags
  size_t SkipNone(uint8_t none_of,
                  size_t pos) const;  // behind the run of characters with none of them
  size_t SkipNumbers(size_t pos, int at_most) const;
  size_t Contraction(size_t pos,
                     bool ignore_case) const;   // behind 's, 't, ...; `pos` when there is none
  size_t Spaces(size_t pos, size_t end) const;  // \s+(?!\S)|\s+ where [pos, end) are all the spaces
  size_t LinesOrSpaces(size_t pos) const;       // \s*[\r\n]+|\s+(?!\S)|\s+
  size_t Gpt2End(size_t pos) const;
  size_t SmolLMEnd(size_t pos);
  size_t Llama3End(size_t pos, int max_numbers) const;
  size_t O200kEnd(size_t pos) const;
  size_t O200kWord(size_t pos) const;
  struct CaseRun {
    size_t lower_end;  // behind U*L+, U and L being kUpper and kLower; the start when it does not
                       // match
    size_t upper_end;  // behind U*
  };
  CaseRun ScanCase(size_t pos) const;

  const CharTable& table_;
  const PreTokenizer kind_;
  const std::string_view whole_;
  std::string_view text_;  // a prefix of whole_: for kSmolLM up to the next number, else all of it
  size_t pos_ = 0;
};

}  // namespace trireme
