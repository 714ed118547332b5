#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/strings.h"
#include "runtime/text/tokenizer.h"
#include "tests/runtime/text/golden_texts.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kModel =
    R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<s>":3,"</s>":4},"merges":["a b"]})";
constexpr std::string_view kByteLevel =
    R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
constexpr std::string_view kAdded = R"("added_tokens":[{"id":3,"content":"<s>","special":true},)"
                                    R"({"id":4,"content":"</s>","special":true}])";

std::string Document(std::string_view members) {
  return StrCat("{", kModel, ",", kAdded, ",", members, "}");
}

std::string ErrorOf(std::string_view document, std::string_view config = "") {
  const auto spec = ParseTokenizerJson(document, config);
  if (spec.ok()) return "no error";
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(spec.status().message());
}

TEST(TokenizerJson, MergesAsStringsOrPairs) {
  for (const char* merge : {R"("a b")", R"(["a","b"])"}) {
    const auto spec =
        ParseTokenizerJson(StrCat(R"({"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":[)", merge,
                                  "]},", kByteLevel, "}"),
                           "");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_THAT(spec->merges, ElementsAre(std::make_pair("a", "b")));
    EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kGpt2);
  }
}

TEST(TokenizerJson, PostProcessorPutsBosAndEos) {
  const auto spec = ParseTokenizerJson(
      Document(StrCat(kByteLevel, R"(,"post_processor":{"type":"TemplateProcessing","single":[
        {"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
        {"SpecialToken":{"id":"</s>","type_id":0}}],"special_tokens":{
        "<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]},
        "</s>":{"id":"</s>","ids":[4],"tokens":["</s>"]}}})")),
      "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(spec->add_bos && spec->add_eos);
  EXPECT_EQ(spec->bos, 3);
  EXPECT_EQ(spec->eos, 4);
}

TEST(TokenizerJson, ConfigNamesTokensAsStringsOrObjects) {
  const auto spec = ParseTokenizerJson(
      Document(kByteLevel),
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null,"add_bos_token":true})");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->bos, 3);
  EXPECT_EQ(spec->eos, 4);
  EXPECT_EQ(spec->pad, std::nullopt);
  EXPECT_TRUE(spec->add_bos);
  EXPECT_FALSE(spec->add_eos);
  EXPECT_THAT(spec->eos_ids, ElementsAre(4));
}

TEST(TokenizerJson, ConfigMayTurnBosOff) {
  const auto with = ParseTokenizerJson(golden::ReadGolden("llama2.json"), "");
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_TRUE(with->add_bos);
  const auto without =
      ParseTokenizerJson(golden::ReadGolden("llama2.json"), R"({"add_bos_token":false})");
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_FALSE(without->add_bos);
}

TEST(TokenizerJson, EndTokensAreKnownControlTokens) {
  const auto spec = ParseTokenizerJson(
      StrCat("{", kModel, R"(,"added_tokens":[{"id":5,"content":"<|im_end|>","special":true},
             {"id":6,"content":"<|endoftext|>","special":false},
             {"id":7,"content":"<|end|>","special":true}],)",
             kByteLevel, "}"),
      R"({"eos_token":"</s>"})");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->eos_ids, ElementsAre(4, 5, 7));
}

TEST(TokenizerJson, UnusedIdsAreEmptyTokens) {
  const auto spec = ParseTokenizerJson(
      StrCat(R"({"model":{"vocab":{"a":0,"b":7},"merges":[]},)", kByteLevel, "}"), "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->tokens.size(), 8u);
  EXPECT_TRUE(Tokenizer::Create(*spec).ok());
}

TEST(TokenizerJsonErrors, MalformedDocuments) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("tokenizer.json"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("not an object"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("model: missing"));
  EXPECT_THAT(ErrorOf("{\"a\":\"\xFF\"}"), HasSubstr("tokenizer.json"));
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("too deep"));
  EXPECT_THAT(ErrorOf(Document(kByteLevel), "[1]"), HasSubstr("tokenizer_config.json"));
}

TEST(TokenizerJsonErrors, NameThePath) {
  const struct {
    const char *members, *expected;
  } cases[] = {
      {R"("pre_tokenizer":{"type":"Whitespace"})", "pre_tokenizer.type: 'Whitespace'"},
      {R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split",
          "pattern":{"Regex":"x+"},"behavior":"Isolated","invert":false}]})",
       "pre_tokenizer.pretokenizers[0].pattern.Regex"},
      {R"("pre_tokenizer":{"type":"Sequence","pretokenizers":3})",
       "pre_tokenizer.pretokenizers: not an array"},
      {R"("pre_tokenizer":{"type":"Digits","individual_digits":false})",
       "pre_tokenizer.individual_digits"},
      {R"("pre_tokenizer":{"type":"Metaspace","replacement":"_"})", "pre_tokenizer.replacement"},
      {R"("pre_tokenizer":null)", "pre_tokenizer: neither ByteLevel"},
      {R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]})",
       "normalizer.normalizers[1].type: 'NFKC'"},
      {R"("normalizer":{"type":"Prepend","prepend":"x"})", "normalizer.prepend"},
      {R"("normalizer":{"type":"Replace","pattern":{"String":"a"},"content":"b"})", "normalizer:"},
      {R"("pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"WordPiece"})", "decoder.type"},
      {R"("pre_tokenizer":{"type":"ByteLevel"},"post_processor":{"type":"BertProcessing"})",
       "post_processor.type: 'BertProcessing'"},
      {R"("pre_tokenizer":{"type":"ByteLevel"},"post_processor":{"type":"TemplateProcessing",
          "single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}})",
       "post_processor.special_tokens.x.ids: missing"},
      {R"("pre_tokenizer":{"type":"ByteLevel"},"post_processor":{"type":"TemplateProcessing",
          "single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{"x":{"ids":[99]}}})",
       "post_processor.special_tokens.x.ids: 99 is outside"},
  };
  for (const auto& c : cases) EXPECT_THAT(ErrorOf(Document(c.members)), HasSubstr(c.expected));
}

TEST(TokenizerJsonErrors, Model) {
  const struct {
    const char *model, *expected;
  } cases[] = {
      {R"({"type":"Unigram"})", "model.type: 'Unigram'"},
      {R"({"vocab":{"a":0}})", "model.merges: missing"},
      {R"({"vocab":[],"merges":[]})", "model.vocab: not an object"},
      {R"({"vocab":{"a":-1},"merges":[]})", "id -1"},
      {R"({"vocab":{"a":2000000000},"merges":[]})", "id 2000000000 leaves more than"},
      {R"({"vocab":{"a":1e300},"merges":[]})", "not an integer"},
      {R"({"vocab":{"a":0,"b":0},"merges":[]})", "id 0 has another token"},
      {R"({"vocab":{"":0},"merges":[]})", "an empty token"},
      {R"({"vocab":{"a":0},"merges":["a"]})", "model.merges[0]: not two pieces"},
      {R"({"vocab":{"a":0},"merges":["a a a"]})", "model.merges[0]: not two pieces"},
      {R"({"vocab":{"a":0},"merges":[["a"]]})", "model.merges[0]: not two pieces"},
      {R"({"vocab":{"a":0},"merges":[7]})", "model.merges[0]: not two pieces"},
      {R"({"vocab":{"a":0},"merges":[],"unk_token":"u"})", "model.unk_token: is not in"},
      {R"({"vocab":{"a":0},"merges":[],"dropout":0.1})", "model.dropout"},
      {R"({"vocab":{"a":0},"merges":[],"continuing_subword_prefix":"##"})",
       "model.continuing_subword_prefix"},
      {R"({"vocab":{"a":0},"merges":[],"byte_fallback":1})", "model.byte_fallback: neither"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(ErrorOf(StrCat("{\"model\":", c.model, ",", kByteLevel, "}")),
                HasSubstr(c.expected));
  }
}

TEST(TokenizerJsonErrors, AddedTokens) {
  const auto with = [](std::string_view token) {
    return ErrorOf(StrCat("{", kModel, ",", kByteLevel, ",\"added_tokens\":[", token, "]}"));
  };
  EXPECT_THAT(with(R"({"id":0,"content":"x"})"), HasSubstr("added_tokens[0].id: id 0 has another"));
  EXPECT_THAT(with(R"({"id":5})"), HasSubstr("added_tokens[0].content: missing"));
  EXPECT_THAT(with(R"({"id":5,"content":""})"), HasSubstr("added_tokens[0].content: empty"));
  EXPECT_THAT(with(R"({"id":99999999,"content":"x"})"), HasSubstr("leaves more than"));
  EXPECT_THAT(with("3"), HasSubstr("added_tokens[0].id: missing"));
}

TEST(TokenizerJsonErrors, Config) {
  EXPECT_THAT(ErrorOf(Document(kByteLevel), R"({"bos_token":"<nope>"})"),
              HasSubstr("tokenizer_config.json: bos_token: is not in the vocabulary"));
  EXPECT_THAT(ErrorOf(Document(kByteLevel), R"({"add_bos_token":true})"),
              HasSubstr("add_bos_token: there is no bos_token"));
  EXPECT_THAT(ErrorOf(Document(kByteLevel), R"({"eos_token":5})"),
              HasSubstr("eos_token: not a string"));
  EXPECT_THAT(ErrorOf(golden::ReadGolden("llama2.json"), R"({"bos_token":"</s>"})"),
              HasSubstr("bos_token: the post_processor has another"));
}

}  // namespace
}  // namespace trireme
