#include "runtime/text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace trireme {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Pieces(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> pieces;
  PieceScanner scanner(kind, text);
  while (!scanner.done()) pieces.emplace_back(scanner.Next());
  return pieces;
}

TEST(PreTokenizer, EmptyTextHasNoPieces) {
  for (PreTokenizer kind : {PreTokenizer::kNone, PreTokenizer::kGpt2, PreTokenizer::kSmolLM,
                            PreTokenizer::kLlama3, PreTokenizer::kQwen2, PreTokenizer::kO200k}) {
    EXPECT_TRUE(Pieces(kind, "").empty());
  }
}

TEST(PreTokenizer, Gpt2KeepsASpaceWithItsWord) {
  EXPECT_THAT(Pieces(PreTokenizer::kGpt2, "It's 12 o'CLOCK,  now \n"),
              ElementsAre("It", "'s", " 12", " o", "'", "CLOCK", ",", " ", " now", " \n"));
}

TEST(PreTokenizer, Gpt2ContractionsAreLowerCaseOnly) {
  EXPECT_THAT(Pieces(PreTokenizer::kGpt2, "I'LL we'll"), ElementsAre("I", "'", "LL", " we", "'ll"));
}

TEST(PreTokenizer, SmolLMTakesNumbersOneByOneAndEndsSpacesBeforeThem) {
  EXPECT_THAT(Pieces(PreTokenizer::kSmolLM, "a  12²x"), ElementsAre("a", "  ", "1", "2", "²", "x"));
}

TEST(PreTokenizer, Llama3GroupsNumbersByThree) {
  EXPECT_THAT(Pieces(PreTokenizer::kLlama3, "$1234567 (word\tx'S"),
              ElementsAre("$", "123", "456", "7", " (", "word", "\tx", "'S"));
}

TEST(PreTokenizer, Llama3EndsSpaceRunsAtTheLastNewline) {
  EXPECT_THAT(Pieces(PreTokenizer::kLlama3, "a \n \n  b!\r\n\r\n c"),
              ElementsAre("a", " \n \n", " ", " b", "!\r\n\r\n", " c"));
}

TEST(PreTokenizer, LongSIsAnSWhereCaseIsIgnored) {
  EXPECT_THAT(Pieces(PreTokenizer::kLlama3, "a'ſb"), ElementsAre("a", "'ſ", "b"));
  EXPECT_THAT(Pieces(PreTokenizer::kGpt2, "a'ſb"), ElementsAre("a", "'", "ſb"));
}

TEST(PreTokenizer, Qwen2TakesNumbersOneByOneAndSpacesApart) {
  EXPECT_THAT(Pieces(PreTokenizer::kQwen2, "x 12"), ElementsAre("x", " ", "1", "2"));
}

TEST(PreTokenizer, O200kSplitsWhereCaseFalls) {
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "camelCaseHTTPServer we'LL"),
              ElementsAre("camel", "Case", "HTTPServer", " we'LL"));
}

TEST(PreTokenizer, O200kGivesBackCapitalsBehindACaselessLetter) {
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "中AB中ab AB中A"),
              ElementsAre("中AB中ab", " AB中", "A"));
}

TEST(PreTokenizer, O200kTakesAMarkAsPrefixOrAsWord) {
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "\u0301ab"), ElementsAre("\u0301ab"));
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "\u0301AB"), ElementsAre("\u0301", "AB"));
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "\u0301"), ElementsAre("\u0301"));
}

TEST(PreTokenizer, O200kKeepsSlashesAndNewlinesBehindSymbols) {
  EXPECT_THAT(Pieces(PreTokenizer::kO200k, "a.\n/\n x"), ElementsAre("a", ".\n/\n", " x"));
}

TEST(PreTokenizer, MongolianVowelSeparatorIsNoSpace) {
  EXPECT_THAT(Pieces(PreTokenizer::kGpt2, "a\u180E \u180Eb"),
              ElementsAre("a", "\u180E", " \u180E", "b"));
}

TEST(PreTokenizer, LettersNewerThanTheSystemUnicodeAreLetters) {
  // U+105C0 (Unicode 16.0) and U+2EBF0 (Unicode 15.1).
  EXPECT_THAT(Pieces(PreTokenizer::kGpt2, "a\U000105C0\U0002EBF0-"),
              ElementsAre("a\U000105C0\U0002EBF0", "-"));
}

}  // namespace
}  // namespace trireme
