#include "runtime/text/stream_decoder.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/base/strings.h"
#include "tests/runtime/text/golden_texts.h"

namespace trireme {
namespace {

const Tokenizer& Golden(std::string_view name) {
  static auto* const made =
      new std::map<std::string, std::unique_ptr<const Tokenizer>, std::less<>>();
  auto it = made->find(name);
  if (it == made->end()) {
    auto spec = ParseTokenizerJson(golden::ReadGolden(StrCat(name, ".json")), "");
    it = made->emplace(name, Tokenizer::Create(std::move(spec).value()).value()).first;
  }
  return *it->second;
}

// Ids of single bytes of the gpt2 golden tokenizer, so that a test decides where text is cut.
std::vector<TokenId> Bytes(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) {
    for (TokenId id = 0; id < Golden("gpt2").vocab_size(); ++id) {
      if (Golden("gpt2").TokenBytes(id) == std::string_view(&c, 1)) {
        ids.push_back(id);
        break;
      }
    }
  }
  EXPECT_EQ(ids.size(), text.size());
  return ids;
}

// What each Push returns, a '|' behind each, then what Finish returns.
std::string Stream(const std::vector<TokenId>& ids, StreamDecoder::Options options,
                   std::string* matched = nullptr) {
  StreamDecoder decoder(&Golden("gpt2"), std::move(options));
  std::string out;
  for (const TokenId id : ids) out += decoder.Push(id) + "|";
  out += decoder.Finish();
  if (matched != nullptr) *matched = decoder.matched_stop();
  return out;
}

std::string Joined(const std::vector<TokenId>& ids, StreamDecoder::Options options,
                   std::string* matched = nullptr) {
  StreamDecoder decoder(&Golden("gpt2"), std::move(options));
  std::string out;
  for (const TokenId id : ids) out += decoder.Push(id);
  out += decoder.Finish();
  if (matched != nullptr) *matched = decoder.matched_stop();
  return out;
}

TEST(StreamDecoder, HoldsAnUnfinishedCharacter) {
  EXPECT_EQ(Stream(Bytes("aé中"), {}), "a||é|||中|");
}

TEST(StreamDecoder, AnUnfinishedCharacterAtTheEndIsReplaced) {
  EXPECT_EQ(Stream(Bytes("a\xE4\xB8"), {}), "a|||\uFFFD");
  EXPECT_EQ(Stream(Bytes("\xE4\xB8z\xFF"), {}), "||\uFFFDz|\uFFFD|");
}

TEST(StreamDecoder, StopsAndHoldsOnlyWhatCouldBeAStop) {
  std::string matched;
  EXPECT_EQ(Stream(Bytes("xENyENDz"), {.stop = {"END"}}, &matched), "x|||ENy|||||");
  EXPECT_EQ(matched, "END");
}

TEST(StreamDecoder, AnUnfinishedStopIsReleasedAtTheEnd) {
  EXPECT_EQ(Stream(Bytes("aEN"), {.stop = {"END"}}), "a|||EN");
}

TEST(StreamDecoder, KeepsTheStopStringOnRequest) {
  EXPECT_EQ(Joined(Bytes("aENDb"), {.stop = {"END"}, .include_stop = true}), "aEND");
}

TEST(StreamDecoder, OverlappingPrefixesFallBack) {
  EXPECT_EQ(Joined(Bytes("aaab"), {.stop = {"aab"}}), "a");
  EXPECT_EQ(Joined(Bytes("ababac"), {.stop = {"abac"}}), "ab");
}

TEST(StreamDecoder, OfSeveralStopsInOneTokenTheFirstThenTheLongestCounts) {
  const auto ids = Golden("gpt2").Encode(" return", Tokenizer::SpecialTokens::kAsText, false);
  ASSERT_EQ(ids.size(), 1u);
  std::string matched;
  EXPECT_EQ(Joined(ids, {.stop = {"turn", "re", "ret", "urn"}}, &matched), " ");
  EXPECT_EQ(matched, "ret");
}

TEST(StreamDecoder, AStopMaySpanTokensAndCharacters) {
  EXPECT_EQ(Joined(Bytes("a。\n\nb"), {.stop = {"。\n\n"}}), "a");
}

TEST(StreamDecoder, StopsBeforeMinTokensDoNotCount) {
  EXPECT_EQ(Joined(Bytes("aXbXc"), {.stop = {"X"}, .min_tokens = 3}), "aXb");
  EXPECT_EQ(Joined(Bytes("aXbXc"), {.stop = {"X"}, .min_tokens = 2}), "a");
  // The stop begins before, and is completed by, the first token that counts.
  EXPECT_EQ(Joined(Bytes("aXYb"), {.stop = {"XY"}, .min_tokens = 3}), "a");
}

TEST(StreamDecoder, TokensAfterTheStopAreIgnored) {
  StreamDecoder decoder(&Golden("gpt2"), {.stop = {"b"}});
  for (const TokenId id : Bytes("abab")) decoder.Push(id);
  EXPECT_TRUE(decoder.stopped());
  EXPECT_EQ(decoder.Push(Bytes("z")[0]), "");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoder, EmptyAndInvalidStopsNeverMatch) {
  EXPECT_EQ(Joined(Bytes("ab\xFF"), {.stop = {"", "\xFF", "\x80"}}), "ab\uFFFD");
}

TEST(StreamDecoder, ReplacementCharactersCanCompleteAStop) {
  EXPECT_EQ(Joined(Bytes("a\xE4"), {.stop = {"\uFFFD"}}), "a");
}

TEST(StreamDecoder, SpecialTokensAreSkippedUnlessAskedFor) {
  const TokenId end = *Golden("gpt2").FindToken("<|endoftext|>");
  std::vector<TokenId> ids = Bytes("ab");
  ids.insert(ids.begin() + 1, end);
  EXPECT_EQ(Joined(ids, {}), "ab");
  EXPECT_EQ(Joined(ids, {.skip_special = false}), "a<|endoftext|>b");
  EXPECT_EQ(Joined(ids, {.stop = {"<|end"}, .skip_special = false}), "a");
}

TEST(StreamDecoder, SentencePieceDropsTheFirstSpaceUnlessTextGoesOn) {
  const Tokenizer& llama = Golden("llama2");
  const auto ids = llama.Encode("the the", Tokenizer::SpecialTokens::kAsText, false);
  for (const bool continues : {false, true}) {
    StreamDecoder decoder(&llama, {.continues_text = continues});
    std::string text;
    for (const TokenId id : ids) text += decoder.Push(id);
    EXPECT_EQ(text + decoder.Finish(), continues ? " the the" : "the the");
  }
}

TEST(StreamDecoder, PartsMakeUpWhatDecodeGives) {
  const golden::Texts texts;
  for (const char* name : {"gpt2", "llama2", "metaspace", "gemma"}) {
    const Tokenizer& tokenizer = Golden(name);
    for (int i = 0; i < 1000; ++i) {
      const std::string text = texts.Get(i);
      const auto ids = tokenizer.Encode(text, Tokenizer::SpecialTokens::kParse, true);
      for (const bool skip_special : {false, true}) {
        StreamDecoder decoder(&tokenizer,
                              {.stop = {"never there", text + "x"}, .skip_special = skip_special});
        std::string streamed;
        for (const TokenId id : ids) streamed += decoder.Push(id);
        streamed += decoder.Finish();
        ASSERT_EQ(streamed, tokenizer.Decode(ids, skip_special)) << name << " text " << i;
      }
    }
  }
}

TEST(StreamDecoder, RandomIdsStreamAsTheyDecode) {
  const Tokenizer& tokenizer = Golden("gpt2");
  uint32_t state = 1;
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> ids(100);
    for (TokenId& id : ids) {
      state = state * 1664525 + 1013904223;
      // Half of them single bytes, most of which are no UTF-8 here.
      id = static_cast<TokenId>((state >> 8) % (state & 1 ? 256 : tokenizer.vocab_size()));
    }
    StreamDecoder decoder(&tokenizer, {.stop = {"no such stop"}});
    std::string streamed;
    for (const TokenId id : ids) streamed += decoder.Push(id);
    ASSERT_EQ(streamed + decoder.Finish(), tokenizer.Decode(ids, true));
  }
}

}  // namespace
}  // namespace trireme
