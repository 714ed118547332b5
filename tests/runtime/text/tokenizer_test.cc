#include "runtime/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "runtime/base/strings.h"
#include "runtime/text/byte_alphabet.h"
#include "tests/runtime/text/golden_texts.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Special = Tokenizer::SpecialTokens;

std::unique_ptr<const Tokenizer> Make(TokenizerSpec spec) {
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string CreateError(TokenizerSpec spec) {
  const auto tokenizer = Tokenizer::Create(std::move(spec));
  if (tokenizer.ok()) return "no error";
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

TokenizerSpec Golden(std::string_view name) {
  auto spec = ParseTokenizerJson(golden::ReadGolden(StrCat(name, ".json")), "");
  EXPECT_TRUE(spec.ok()) << spec.status();
  return std::move(spec).value();
}

// a b c ab bc abc Ġ, <x> special, <y> not special.
TokenizerSpec TinySpec() {
  TokenizerSpec spec;
  spec.tokens = {"a", "b", "c", "ab", "bc", "abc", "\u0120", "<x>", "<y>", "<xx>"};
  spec.merges = {{"b", "c"}, {"a", "b"}, {"a", "bc"}};
  spec.added_tokens = {{.id = 7, .content = "<x>", .special = true}, {.id = 8, .content = "<y>"}};
  return spec;
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->Encode("abc", Special::kAsText, false), ElementsAre(5));
  EXPECT_THAT(tokenizer->Encode("abab", Special::kAsText, false), ElementsAre(3, 3));
  EXPECT_THAT(tokenizer->Encode("abbc", Special::kAsText, false), ElementsAre(3, 4));
}

// All bytes and "<x>" of three.
TokenizerSpec ByteSpec() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(TokenOfBytes(std::string(1, static_cast<char>(byte))));
  }
  spec.tokens.push_back("<x>");
  spec.added_tokens = {{.id = 256, .content = "<x>", .special = true}};
  return spec;
}

TEST(Tokenizer, TellsHowManyBytesAToken) { EXPECT_EQ(Make(ByteSpec())->max_bytes_per_token(), 3u); }

TEST(Tokenizer, NfcMayTakeThreeQuartersOfABytesPerTokenBound) {
  TokenizerSpec spec = ByteSpec();
  spec.normalize_nfc = true;
  const auto tokenizer = Make(spec);
  EXPECT_EQ(tokenizer->max_bytes_per_token(), 4 * 3u);
  // The character that shrinks most.
  const std::string text = "\u1FBE\u0308\u0301";
  EXPECT_EQ(text.size(), 7u);
  EXPECT_EQ(tokenizer->Encode(text, Special::kAsText, false).size(), 2u);
}

TEST(Tokenizer, TellsNoBytesPerTokenWhereTextMayVanish) {
  EXPECT_EQ(Make(TinySpec())->max_bytes_per_token(), std::nullopt);
  for (const bool left : {true, false}) {
    TokenizerSpec spec = ByteSpec();
    (left ? spec.added_tokens[0].lstrip : spec.added_tokens[0].rstrip) = true;
    EXPECT_EQ(Make(spec)->max_bytes_per_token(), std::nullopt);
  }
}

TEST(Tokenizer, TextOutsideTheVocabularyVanishesWithoutUnk) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->Encode("xéz", Special::kAsText, false), ElementsAre());
}

TEST(Tokenizer, EmptyTextHasNoIdsButBosAndEos) {
  TokenizerSpec spec = TinySpec();
  spec.bos = 7;
  spec.eos = 8;
  spec.add_bos = spec.add_eos = true;
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->Encode("", Special::kParse, true), ElementsAre(7, 8));
  EXPECT_THAT(tokenizer->Encode("", Special::kParse, false), ElementsAre());
  EXPECT_EQ(tokenizer->Decode({}, true), "");
}

TEST(Tokenizer, SpecialTokensFormOnlyWhenParsed) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->Encode("a<x>b<y>", Special::kParse, false), ElementsAre(0, 7, 1, 8));
  EXPECT_THAT(tokenizer->Encode("a<x>b<y>", Special::kAsText, false), ElementsAre(0, 1, 8));
}

TEST(Tokenizer, NoMergeOrWholeWordMakesASpecialToken) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens.push_back({.id = 5, .content = "abc", .special = true});
  const auto by_merges = Make(spec);
  EXPECT_THAT(by_merges->Encode("abc", Special::kAsText, false), ElementsAre(0, 4));
  spec.ignore_merges = true;
  const auto by_words = Make(spec);
  EXPECT_THAT(by_words->Encode("abc", Special::kAsText, false), ElementsAre(0, 4));
  EXPECT_THAT(by_words->Encode("abc", Special::kParse, false), ElementsAre(5));
}

TEST(Tokenizer, NoScoredMergeMakesASpecialToken) {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kSentencePieceBpe;
  spec.pre_tokenizer = PreTokenizer::kNone;
  spec.tokens = {"<", "s", ">", "<s", "<s>"};
  spec.scores = {0, 0, 0, -1, -2};
  spec.added_tokens = {{.id = 4, .content = "<s>", .special = true}};
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->Encode("<s>", Special::kAsText, false), ElementsAre(3, 2));
  EXPECT_THAT(tokenizer->Encode("<s>", Special::kParse, false), ElementsAre(4));
}

TEST(Tokenizer, LongestAddedTokenWins) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens.push_back({.id = 9, .content = "<x>a", .special = true});
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->Encode("<x>ab<x>b", Special::kParse, false), ElementsAre(9, 1, 7, 1));
}

TEST(Tokenizer, StrippingTokensTakeTheSpacesBesideThem) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens[1].lstrip = spec.added_tokens[1].rstrip = true;
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->Encode("a  <y> \n b", Special::kParse, false), ElementsAre(0, 8, 1));
}

TEST(Tokenizer, SingleWordTokensNeedBorders) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens[1] = {.id = 8, .content = "bc", .single_word = true};
  spec.tokens[8] = "[bc]";
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->Encode("abc bc", Special::kParse, false), ElementsAre(5, 6, 8));
}

TEST(TokenizerTemplate, UserSpansFormNoSpecialTokens) {
  const auto tokenizer = Make(TinySpec());
  const std::string text = "<x>a<x>b<x>";
  EXPECT_THAT(tokenizer->EncodeTemplate(text, {{3, 8}}, false), ElementsAre(7, 0, 1, 7));
  EXPECT_THAT(tokenizer->EncodeTemplate(text, {}, false), ElementsAre(7, 0, 7, 1, 7));
}

TEST(TokenizerTemplate, ATokenMayNotStraddleABorder) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->EncodeTemplate("a<x>b", {{0, 2}}, false), ElementsAre(0, 1));
  EXPECT_THAT(tokenizer->EncodeTemplate("a<x>b", {{3, 5}}, false), ElementsAre(0, 1));
}

TEST(TokenizerTemplate, AUserCannotHideTheMarkupBehindALongerToken) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens.push_back({.id = 9, .content = "<x>a", .special = true});
  spec.added_tokens.push_back({.id = 6, .content = "b<x>", .special = true});
  const auto tokenizer = Make(std::move(spec));
  EXPECT_THAT(tokenizer->EncodeTemplate("b<x>a", {{4, 5}, {0, 1}}, false), ElementsAre(1, 7, 0));
}

TEST(TokenizerTemplate, OrdinaryTextIsTokenizedAcrossBorders) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->EncodeTemplate("abc", {{1, 2}}, false), ElementsAre(5));
}

TEST(TokenizerTemplate, SpansBeyondTheTextAreHarmless) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_THAT(tokenizer->EncodeTemplate("<x>", {{1, 99}, {50, 60}, {2, 1}}, false), ElementsAre());
}

TEST(TokenizerTemplate, SpansFollowTheTextThroughNormalization) {
  TokenizerSpec spec = Golden("llama2");
  for (auto& token : spec.added_tokens) {
    if (token.content == "[INST]") token.normalized = true;
  }
  const auto tokenizer = Make(std::move(spec));
  // Normalized, the token is "▁[INST]": it needs a space before it.
  const std::string text = "x [INST] y [INST] z";
  const TokenId inst = *tokenizer->FindToken("[INST]");
  const auto count = [&](const std::vector<TokenId>& ids) {
    return std::count(ids.begin(), ids.end(), inst);
  };
  EXPECT_EQ(count(tokenizer->EncodeTemplate(text, {}, false)), 2);
  EXPECT_EQ(count(tokenizer->EncodeTemplate(text, {{9, 17}}, false)), 1);
  EXPECT_EQ(count(tokenizer->EncodeTemplate(text, {{0, 3}}, false)), 1);
  EXPECT_EQ(count(tokenizer->EncodeTemplate(text, {{0, text.size()}}, false)), 0);
}

TEST(TokenizerTemplate, SpansFollowTheTextThroughRepairAndNfc) {
  TokenizerSpec spec = Golden("qwen2");
  for (auto& token : spec.added_tokens) token.normalized = true;
  const auto tokenizer = Make(std::move(spec));
  const TokenId end = *tokenizer->FindToken("<|im_end|>");
  // Invalid bytes grow and combining marks shrink before the second token.
  const std::string text =
      "\xFF\xFE"
      "e\u0301<|im_end|>"
      "e\u0301\xE2\x82<|im_end|>";
  const size_t second = text.rfind("<|im_end|>");
  const auto first_only = tokenizer->EncodeTemplate(text, {{second, text.size()}}, false);
  EXPECT_EQ(std::count(first_only.begin(), first_only.end(), end), 1);
  const auto second_only = tokenizer->EncodeTemplate(text, {{0, second - 6}}, false);
  EXPECT_EQ(std::count(second_only.begin(), second_only.end(), end), 1);
  EXPECT_EQ(second_only.back(), end);
}

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  const auto tokenizer = Make(Golden("gpt2"));
  EXPECT_EQ(tokenizer->Encode("a\xFF\xE4\xB8 b", Special::kParse, false),
            tokenizer->Encode("a\uFFFD\uFFFD b", Special::kParse, false));
}

TEST(Tokenizer, DecodeSkipsSpecialTokensAndUnknownIds) {
  const auto tokenizer = Make(TinySpec());
  const std::vector<TokenId> ids = {0, 7, 8, -1, 1000, 1};
  EXPECT_EQ(tokenizer->Decode(ids, true), "a<y>b");
  EXPECT_EQ(tokenizer->Decode(ids, false), "a<x><y>b");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_FALSE(tokenizer->IsSpecial(1000));
}

TEST(Tokenizer, DecodeReplacesUnfinishedCharacters) {
  const auto tokenizer = Make(Golden("gpt2"));
  auto ids = tokenizer->Encode("a\U0010FFFF", Special::kAsText, false);
  ASSERT_EQ(ids.size(), 5u);
  ids.resize(4);
  EXPECT_EQ(tokenizer->Decode(ids, true), "a\uFFFD");
}

TEST(Tokenizer, SentencePieceDropsThePrefixSpaceWhenDecoding) {
  const auto tokenizer = Make(Golden("llama2"));
  const auto ids = tokenizer->Encode("  Hello 中\x01", Special::kAsText, true);
  EXPECT_EQ(tokenizer->Decode(ids, true), "  Hello 中\x01");
}

TEST(Tokenizer, FindsTokensByStoredOrAddedContent) {
  const auto tokenizer = Make(TinySpec());
  EXPECT_EQ(tokenizer->FindToken("abc"), 5);
  EXPECT_EQ(tokenizer->FindToken("<x>"), 7);
  EXPECT_EQ(tokenizer->FindToken("nothing"), std::nullopt);
}

std::string Repeated(std::string_view unit, size_t size) {
  std::string text;
  while (text.size() < size) text += unit;
  return text;
}

// Near linear: quadratic work on these texts (10^11 steps and more) would run into the test's time
// limit.
TEST(Tokenizer, LongTextWithoutSpacesIsNearlyLinear) {
  for (const char* name : {"gpt2", "llama3", "qwen2", "o200k", "llama2"}) {
    const auto tokenizer = Make(Golden(name));
    for (const char* unit : {"A", "1", "!", "\u0301", "\u0301\u0323", "e\u0301", "中A", "\u0301A",
                             " ", " \n", "'", "▁", "<|im_", "<", "\xFF"}) {
      const std::string text = Repeated(unit, 200 << 10);
      EXPECT_FALSE(tokenizer->Encode(text, Special::kParse, true).empty());
    }
  }
}

TEST(Tokenizer, AMegabyteOfOneLetterIsNearlyLinear) {
  for (const char* name : {"smollm", "metaspace"}) {
    const auto tokenizer = Make(Golden(name));
    const std::string text = Repeated("a", 1 << 20);
    const auto ids = tokenizer->Encode(text, Special::kAsText, false);
    EXPECT_EQ(tokenizer->Decode(ids, true), text);
  }
}

TEST(Tokenizer, LongAndShortPiecesMergeAlike) {
  // The first symbols of a long run merge as those of a short one do when the merges are local.
  const auto tokenizer = Make(Golden("gpt2"));
  const std::string word = "antidisestablishmentarianism";
  const auto once = tokenizer->Encode(word + "!", Special::kAsText, false);
  std::string many;
  for (int i = 0; i < 100; ++i) many += word + "!";
  std::vector<TokenId> expected;
  for (int i = 0; i < 100; ++i) expected.insert(expected.end(), once.begin(), once.end());
  EXPECT_EQ(tokenizer->Encode(many, Special::kAsText, false), expected);
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const auto tokenizer = Make(Golden("qwen2"));
  const golden::Texts texts;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 200; ++i) {
    expected.push_back(tokenizer->Encode(texts.Get(i), Special::kParse, true));
  }
  std::vector<std::thread> threads;
  std::vector<int> num_wrong(4);
  for (size_t t = 0; t < num_wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const auto ids = tokenizer->Encode(texts.Get(i), Special::kParse, true);
        num_wrong[t] += ids != expected[i] || tokenizer->Decode(ids, true).empty() != ids.empty();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(num_wrong, ElementsAre(0, 0, 0, 0));
}

TEST(TokenizerSpecErrors, EmptyVocabulary) {
  EXPECT_THAT(CreateError({}), HasSubstr("tokens: empty"));
}

TEST(TokenizerSpecErrors, DuplicateTokens) {
  TokenizerSpec spec = TinySpec();
  spec.tokens[2] = "a";
  EXPECT_THAT(CreateError(spec), HasSubstr("tokens[2]: the same as tokens[0]"));
}

TEST(TokenizerSpecErrors, TokensAreUtf8OfBoundedLength) {
  TokenizerSpec spec = TinySpec();
  spec.tokens[2] = "\xC0\x80";
  EXPECT_THAT(CreateError(spec), HasSubstr("tokens[2]: not UTF-8"));
  spec.tokens[2] = std::string(5000, 'x');
  EXPECT_THAT(CreateError(spec), HasSubstr("tokens[2]: longer"));
}

TEST(TokenizerSpecErrors, MergesOfUnknownPieces) {
  TokenizerSpec spec = TinySpec();
  spec.merges.emplace_back("a", "zz");
  EXPECT_THAT(CreateError(spec), HasSubstr("merges[3]: 'zz' is not in the vocabulary"));
  spec.merges.back() = {"c", "c"};
  EXPECT_THAT(CreateError(spec), HasSubstr("merges[3]: 'cc' is not in the vocabulary"));
}

TEST(TokenizerSpecErrors, IdsOutsideTheVocabulary) {
  for (auto field :
       {&TokenizerSpec::bos, &TokenizerSpec::eos, &TokenizerSpec::unk, &TokenizerSpec::pad}) {
    for (const TokenId id : {-1, 10}) {
      TokenizerSpec spec = TinySpec();
      spec.*field = id;
      EXPECT_THAT(CreateError(spec), HasSubstr("is outside the vocabulary of 10"));
    }
  }
  TokenizerSpec spec = TinySpec();
  spec.eos_ids = {0, 99};
  EXPECT_THAT(CreateError(spec), HasSubstr("eos_ids: token id 99"));
}

TEST(TokenizerSpecErrors, AddedTokens) {
  TokenizerSpec spec = TinySpec();
  spec.added_tokens[1].id = 10;
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: token id 10"));
  spec.added_tokens[1] = {.id = 7, .content = "<z>"};
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: id 7 occurs twice"));
  spec.added_tokens[1] = {.id = 8, .content = "<x>"};
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: its content occurs twice"));
  spec.added_tokens[1] = {.id = 8, .content = ""};
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: empty"));
  spec.added_tokens[1] = {.id = 8, .content = "\xFF"};
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: content is not UTF-8"));
  spec.added_tokens[1] = {.id = 8, .content = std::string(2000, 'x')};
  EXPECT_THAT(CreateError(spec), HasSubstr("added_tokens[1]: content of 2000 bytes"));
}

TEST(TokenizerSpecErrors, ScoresThatDoNotFit) {
  TokenizerSpec spec = TinySpec();
  spec.kind = TokenizerSpec::Kind::kSentencePieceBpe;
  spec.merges.clear();
  spec.scores = {1, 2};
  EXPECT_THAT(CreateError(spec), HasSubstr("scores: 2 values for 10 tokens"));
  spec.scores.assign(10, 0);
  spec.scores[3] = std::nanf("");
  EXPECT_THAT(CreateError(spec), HasSubstr("scores[3]: not a number"));
}

TEST(TokenizerSpecErrors, AddingATokenThatIsNotThere) {
  TokenizerSpec spec = TinySpec();
  spec.add_bos = true;
  EXPECT_THAT(CreateError(spec), HasSubstr("add_bos"));
}

}  // namespace
}  // namespace trireme
