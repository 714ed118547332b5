// The same ids as the reference libraries on 12,000 texts of many scripts
// (tests/golden/make_tokenizer_golden.py).
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/base/strings.h"
#include "runtime/text/tokenizer.h"
#include "tests/runtime/text/golden_texts.h"

namespace trireme {
namespace {

using golden::kNumTexts;

const golden::Texts& Texts() {
  static const golden::Texts* const texts = new golden::Texts();
  return *texts;
}

std::string Printable(std::string_view text) {
  return ::testing::PrintToString(std::string(text.substr(0, 400)));
}

// Compares with one array of a .hash file; prints the first few texts that differ.
template <typename EncodeFn>
void ExpectSameIds(absl::Span<const uint32_t> expected, EncodeFn encode) {
  ASSERT_EQ(expected.size(), static_cast<size_t>(kNumTexts));
  int num_wrong = 0, num_exempt = 0;
  for (int i = 0; i < kNumTexts && num_wrong < 5; ++i) {
    if (expected[i] == golden::kExempt) {
      ++num_exempt;
      continue;
    }
    const std::string text = Texts().Get(i);
    const std::vector<TokenId> ids = encode(text);
    if (golden::HashOf(ids) == expected[i]) continue;
    ++num_wrong;
    ADD_FAILURE() << "text " << i << ": " << Printable(text);
  }
  EXPECT_LT(num_exempt, 100);
}

void ExpectGolden(const Tokenizer& tokenizer, const std::vector<uint32_t>& hashes) {
  ASSERT_EQ(hashes.size(), 2u * kNumTexts);
  ExpectSameIds(absl::MakeSpan(hashes).subspan(0, kNumTexts), [&](const std::string& text) {
    return tokenizer.Encode(text, Tokenizer::SpecialTokens::kParse, true);
  });
  ExpectSameIds(absl::MakeSpan(hashes).subspan(kNumTexts), [&](const std::string& text) {
    return tokenizer.Encode(text, Tokenizer::SpecialTokens::kAsText, false);
  });
}

class TokenizerGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, IdsAreThoseOfTheReference) {
  const auto spec = ParseTokenizerJson(golden::ReadGolden(StrCat(GetParam(), ".json")), "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGolden(**tokenizer, golden::Hashes(golden::ReadGolden(StrCat(GetParam(), ".hash"))));
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         ::testing::Values("gpt2", "gpt2_prefix", "smollm", "llama3", "qwen2",
                                           "cl100k", "o200k", "llama2", "metaspace",
                                           "metaspace_split", "gemma"),
                         [](const auto& info) { return std::string(info.param); });

class TokenizerRoundTrip : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerRoundTrip, DecodingGivesTheTextBack) {
  const auto spec = ParseTokenizerJson(golden::ReadGolden(StrCat(GetParam(), ".json")), "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (int i = 0; i < kNumTexts; ++i) {
    const std::string text = Texts().Get(i);
    const auto ids = (*tokenizer)->Encode(text, Tokenizer::SpecialTokens::kAsText, false);
    ASSERT_EQ((*tokenizer)->Decode(ids, true), text) << "text " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(ByteLevel, TokenizerRoundTrip,
                         ::testing::Values("smollm", "llama3", "cl100k", "o200k"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerGoldenScores, IdsAreThoseOfSentencePiece) {
  const boost::json::value document = boost::json::parse(golden::ReadGolden("sentencepiece.json"));
  GgufTokenizerFields fields;
  fields.model = "llama";
  fields.tokens = boost::json::value_to<std::vector<std::string>>(document.at("tokens"));
  fields.token_types = boost::json::value_to<std::vector<int32_t>>(document.at("token_types"));
  fields.scores = boost::json::value_to<std::vector<float>>(document.at("scores"));
  fields.unk = 0;
  const auto spec = TokenizerSpecFromGguf(std::move(fields));
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectSameIds(golden::Hashes(golden::ReadGolden("sentencepiece.hash")),
                [&](const std::string& text) {
                  return (*tokenizer)->Encode(text, Tokenizer::SpecialTokens::kAsText, false);
                });
}

}  // namespace
}  // namespace trireme
