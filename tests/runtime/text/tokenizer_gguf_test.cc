#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/text/tokenizer.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Special = Tokenizer::SpecialTokens;

GgufTokenizerFields ByteLevelFields() {
  GgufTokenizerFields fields;
  fields.model = "gpt2";
  fields.pre = "llama-bpe";
  fields.tokens = {"a", "b", "ab", "<|begin|>", "<|eot_id|>", "<tool>", "<|im_end|>"};
  fields.token_types = {1, 1, 1, 3, 3, 4, 1};
  fields.merges = {"a b"};
  fields.bos = 3;
  fields.eos = 4;
  return fields;
}

GgufTokenizerFields SentencePieceFields() {
  GgufTokenizerFields fields;
  fields.model = "llama";
  fields.tokens = {"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁▁"};
  fields.token_types = {2, 3, 3, 1, 1, 1, 1, 1, 4};
  fields.scores = {0, 0, 0, -5, -6, -7, -2, -1, 0};
  fields.bos = 1;
  fields.eos = 2;
  fields.unk = 0;
  return fields;
}

std::string ErrorOf(GgufTokenizerFields fields) {
  const auto spec = TokenizerSpecFromGguf(std::move(fields));
  if (spec.ok()) return "no error";
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(spec.status().message());
}

TEST(TokenizerGguf, PreTokenizerNamesBringTheirDefaults) {
  const auto spec = TokenizerSpecFromGguf(ByteLevelFields());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kLlama3);
  EXPECT_TRUE(spec->ignore_merges && spec->add_bos);
  GgufTokenizerFields fields = ByteLevelFields();
  fields.pre = "";
  fields.add_bos = false;
  const auto plain = TokenizerSpecFromGguf(fields);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->pre_tokenizer, PreTokenizer::kGpt2);
  EXPECT_FALSE(plain->ignore_merges || plain->add_bos);
}

TEST(TokenizerGguf, OnlyControlTokensAreSpecialAndEndGeneration) {
  GgufTokenizerFields fields = ByteLevelFields();
  fields.eot = 5;
  const auto spec = TokenizerSpecFromGguf(fields);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->eos_ids, ElementsAre(5, 4));
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->Encode("ab<tool><|eot_id|>", Special::kParse, true),
              ElementsAre(3, 2, 5, 4));
  EXPECT_THAT((*tokenizer)->Encode("ab<tool><|eot_id|>", Special::kAsText, false),
              ElementsAre(2, 5));
  EXPECT_TRUE((*tokenizer)->IsSpecial(4));
  EXPECT_FALSE((*tokenizer)->IsSpecial(5));
}

TEST(TokenizerGguf, ScoresDecideMergesAndSpacesAreMarked) {
  const auto spec = TokenizerSpecFromGguf(SentencePieceFields());
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->Encode("ab a", Special::kAsText, true), ElementsAre(1, 3, 7, 6));
  EXPECT_THAT((*tokenizer)->Encode("xyb", Special::kAsText, false), ElementsAre(3, 0, 5));
  EXPECT_EQ((*tokenizer)->Decode({1, 3, 7, 6}, true), "ab a");
  EXPECT_THAT((*tokenizer)->Encode("a  b", Special::kAsText, false), ElementsAre(6, 8, 3, 5));
}

TEST(TokenizerGguf, SpacePrefixCanBeTurnedOff) {
  GgufTokenizerFields fields = SentencePieceFields();
  fields.add_space_prefix = false;
  fields.add_bos = false;
  const auto spec = TokenizerSpecFromGguf(fields);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->Encode("ab a", Special::kAsText, true), ElementsAre(7, 6));
}

TEST(TokenizerGgufErrors, NameTheKey) {
  GgufTokenizerFields fields = ByteLevelFields();
  fields.model = "t5";
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.model: 't5'"));
  fields = ByteLevelFields();
  fields.pre = "nobody-knows";
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.pre: 'nobody-knows'"));
  fields = ByteLevelFields();
  fields.tokens.clear();
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.tokens: missing"));
  fields = ByteLevelFields();
  fields.merges.clear();
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.merges: missing"));
  for (const char* merge : {"", " ", "a", "a ", "ab"}) {
    fields.merges = {"a b", merge};
    EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.merges: [1]")) << merge;
  }
  fields = ByteLevelFields();
  fields.token_types.pop_back();
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.token_type: 6 values for 7 tokens"));
  fields = SentencePieceFields();
  fields.scores.pop_back();
  EXPECT_THAT(ErrorOf(fields), HasSubstr("tokenizer.ggml.scores: 8 values for 9 tokens"));
}

TEST(TokenizerGgufErrors, IdsOutsideTheVocabulary) {
  for (auto field : {&GgufTokenizerFields::bos, &GgufTokenizerFields::eos,
                     &GgufTokenizerFields::pad, &GgufTokenizerFields::eot}) {
    for (const int64_t id : {int64_t{-1}, int64_t{7}, int64_t{1} << 32}) {
      GgufTokenizerFields fields = ByteLevelFields();
      fields.*field = id;
      EXPECT_THAT(ErrorOf(fields), HasSubstr("is outside the vocabulary of 7"));
    }
  }
}

TEST(TokenizerGgufErrors, AddingATokenThatIsNotThere) {
  GgufTokenizerFields fields = ByteLevelFields();
  fields.bos.reset();
  fields.add_bos = true;
  EXPECT_THAT(ErrorOf(fields), HasSubstr("add_bos_token: there is no bos_token_id"));
}

}  // namespace
}  // namespace trireme
