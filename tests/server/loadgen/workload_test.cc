// Datasets with all the junk they come with, and the requests that are made of them.
#include "server/loadgen/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "server/loadgen/target.h"

namespace trireme::loadgen {
namespace {

using ::testing::HasSubstr;

std::string Refused(const std::string& text, bool json) {
  const auto dataset = ParseDataset(text, json);
  EXPECT_FALSE(dataset.ok()) << text.substr(0, 40);
  return std::string(dataset.status().message());
}

TEST(DatasetTest, EveryFormOfJsonLineIsRead) {
  const auto dataset = ParseDataset(
      R"({"prompt": "one", "output_tokens": 5})"
      "\r\n\n"
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"two"},)"
      R"({"role":"assistant","content":"a"}]})"
      "\n"
      R"({"id":"x","conversations":[{"from":"gpt","value":"hi"},{"from":"human","value":"three"},)"
      R"({"from":"gpt","value":"answer"},{"from":"human","value":"more"}]})",
      /*json=*/true);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_EQ(dataset->prompts.size(), 3u);
  EXPECT_EQ(dataset->prompts[0].messages[0].content, "one");
  EXPECT_EQ(dataset->prompts[0].output_tokens, 5);
  ASSERT_EQ(dataset->prompts[1].messages.size(), 2u);  // the answer is what is asked for
  EXPECT_EQ(dataset->prompts[1].messages[0].role, "system");
  ASSERT_EQ(dataset->prompts[2].messages.size(), 1u);
  EXPECT_EQ(dataset->prompts[2].messages[0].content, "three");
}

TEST(DatasetTest, AnArrayOfItemsIsReadAsWell) {
  for (const char* text : {"[{\"prompt\":\"[1]\"},{\"prompt\":\"two\"}]",
                           "\xef\xbb\xbf \n[ {\"prompt\": \"[1]\"} ,\n  {\"prompt\": \"two\"}, "
                           "{\"prompt\":\"\"}\r\n]\n"}) {
    const auto dataset = ParseDataset(text, /*json=*/true);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    ASSERT_EQ(dataset->prompts.size(), 2u);
    EXPECT_EQ(dataset->prompts[0].messages[0].content, "[1]");
    EXPECT_EQ(dataset->prompts[1].messages[0].content, "two");
  }
}

TEST(DatasetTest, HostileArraysAreRefusedByItem) {
  const std::string fine = "[{\"prompt\":\"fine\"}";
  for (const std::string& rest :
       {std::string(","), std::string(",]"), std::string(",3]"), std::string(",{}]"),
        std::string(",[{\"prompt\":\"x\"}]]"), std::string(",{\"prompt\":\"x"),
        ",{\"prompt\":\"" + std::string(5 << 20, 'x') + "\"}]", "," + std::string(5000, '[')}) {
    EXPECT_THAT(Refused(fine + rest, true), HasSubstr("item 2: "));
  }
  EXPECT_THAT(Refused(fine, true), HasSubstr("item 1: neither"));
  EXPECT_THAT(Refused(fine + " {}]", true), HasSubstr("item 1: neither"));
  EXPECT_THAT(Refused(fine + "] x", true), HasSubstr("follows the array"));
  EXPECT_THAT(Refused("[]", true), HasSubstr("no prompt"));
  EXPECT_FALSE(ParseDataset("[", true).ok());
}

TEST(DatasetTest, AByteOrderMarkIsNoPartOfAPrompt) {
  const auto lines = ParseDataset("\xef\xbb\xbf{\"prompt\":\"one\"}\n", /*json=*/true);
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_EQ(lines->prompts[0].messages[0].content, "one");
  const auto text = ParseDataset("\xef\xbb\xbfone\n", /*json=*/false);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->prompts[0].messages[0].content, "one");
}

TEST(DatasetTest, LinesWithNothingToAskAreCounted) {
  const auto dataset = ParseDataset(
      "{\"prompt\":\"\"}\n{\"conversations\":[]}\n"
      "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"x\"}]}\n{\"prompt\":\"x\"}\n",
      /*json=*/true);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->prompts.size(), 1u);
  EXPECT_EQ(dataset->skipped, 3);
}

TEST(DatasetTest, HostileLinesAreRefusedByNumber) {
  for (const std::string& line :
       {std::string("nonsense"), std::string("[]"), std::string("{}"),
        std::string("{\"prompt\":1}"), std::string("{\"messages\":3}"),
        std::string("{\"messages\":[3]}"), std::string("{\"messages\":[{\"role\":\"user\"}]}"),
        std::string("{\"conversations\":[{\"from\":1,\"value\":\"x\"}]}"),
        std::string("{\"prompt\":\"x\",\"output_tokens\":0}"),
        std::string("{\"prompt\":\"x\",\"output_tokens\":99999999999999999999}"),
        std::string("{\"prompt\":\"\xff\"}"), std::string("{\"prompt\":\"x\"") + '\0' + "}",
        std::string(5000, '['), "{\"prompt\":\"" + std::string(5 << 20, 'x') + "\"}"}) {
    EXPECT_THAT(Refused("{\"prompt\":\"fine\"}\n" + line + "\n", true), HasSubstr("line 2: "));
  }
  EXPECT_THAT(Refused("fine\n\xc3(\n", false), HasSubstr("line 2: no UTF-8"));
  EXPECT_THAT(Refused("\n\r\n", false), HasSubstr("no prompt"));
  EXPECT_THAT(Refused("", true), HasSubstr("no prompt"));
}

TEST(DatasetTest, TextIsOnePromptALine) {
  const auto dataset = ParseDataset("{\"prompt\": 1}\r\n\nzwei \xc3\xb6", /*json=*/false);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_EQ(dataset->prompts.size(), 2u);
  EXPECT_EQ(dataset->prompts[0].messages[0].content, "{\"prompt\": 1}");
  EXPECT_EQ(dataset->prompts[1].messages[0].content, "zwei \xc3\xb6");
}

TEST(DatasetTest, AFileThatCannotBeReadIsNamed) {
  EXPECT_THAT(std::string(ReadDataset("/nonexistent/x.jsonl").status().message()),
              HasSubstr("/nonexistent/x.jsonl: No such file"));
  EXPECT_FALSE(ReadDataset("/").ok());
}

Workload Made(const WorkloadOptions& options, uint64_t seed = 1) {
  auto workload = Workload::Make(options, seed);
  EXPECT_TRUE(workload.ok()) << workload.status();
  return *std::move(workload);
}

TEST(WorkloadTest, EqualSeedsAskTheSame) {
  WorkloadOptions options;
  options.prompt_tokens = *LengthDistribution::Parse("uniform:5:50");
  options.output_tokens = *LengthDistribution::Parse("uniform:5:50");
  Workload one = Made(options), same = Made(options), other = Made(options, 2);
  int differ = 0;
  for (int i = 0; i < 20; ++i) {
    const Request a = one.Next(), b = same.Next(), c = other.Next();
    EXPECT_EQ(a.messages[0].content, b.messages[0].content);
    EXPECT_EQ(a.max_tokens, b.max_tokens);
    differ += a.messages[0].content != c.messages[0].content;
  }
  EXPECT_EQ(differ, 20);
}

TEST(WorkloadTest, MeasuredScaleMakesPromptsOfTheLengthInTokens) {
  WorkloadOptions options;
  options.prompt_tokens = LengthDistribution::Fixed(110);
  Workload workload = Made(options);
  workload.set_scale({.tokens_per_word = 5, .overhead_tokens = 10});
  const std::string text = workload.Next().messages[0].content;
  EXPECT_EQ(std::count(text.begin(), text.end(), ' ') + 1, 20);
}

TEST(WorkloadTest, TheSharedPrefixBeginsItsShareOfThePrompts) {
  WorkloadOptions options;
  options.prompt_tokens = LengthDistribution::Fixed(4);
  options.shared_prefix_share = 0.25F;
  options.shared_prefix_tokens = 8;
  Workload workload = Made(options);
  int shared = 0;
  std::set<std::string> prefixes;
  for (int i = 0; i < 4000; ++i) {
    const std::string text = workload.Next().messages[0].content;
    if (std::count(text.begin(), text.end(), ' ') + 1 != 12) continue;
    ++shared;
    prefixes.insert(text.substr(0, 8 * 5));
  }
  EXPECT_NEAR(shared, 1000, 5 * std::sqrt(750));
  EXPECT_EQ(prefixes.size(), 1u);
}

TEST(WorkloadTest, ADatasetIsShuffledAndComesAroundAgain) {
  const std::string path = testing::TempDir() + "loadgen_prompts.txt";
  std::ofstream(path) << "a\nb\nc\nd\ne\nf\ng\nh\n";
  WorkloadOptions options;
  options.dataset_file = path;
  Workload workload = Made(options);
  std::string first, second;
  for (int i = 0; i < 8; ++i) first += workload.Next().messages[0].content;
  for (int i = 0; i < 8; ++i) second += workload.Next().messages[0].content;
  EXPECT_EQ(first, second);
  EXPECT_NE(first, "abcdefgh");
  std::sort(first.begin(), first.end());
  EXPECT_EQ(first, "abcdefgh");
}

TEST(TargetTest, UrlsAreTakenApart) {
  const auto http = ParseTarget("http://example.org:8000/base/v1/");
  ASSERT_TRUE(http.ok()) << http.status();
  EXPECT_FALSE(http->grpc || http->tls);
  EXPECT_EQ(http->path, "/base");
  EXPECT_EQ(http->authority(), "example.org:8000");
  const auto v6 = ParseTarget("grpcs://[::1]:8001");
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_TRUE(v6->grpc && v6->tls);
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->authority(), "[::1]:8001");
  EXPECT_EQ(ParseTarget("https://h")->port, 443);
}

TEST(TargetTest, UrlsThatAreNoneAreRefused) {
  for (const char* url :
       {"", "h:80", "ftp://h", "http://", "http://:80", "http://h:0", "http://h:x",
        "http://h:99999", "http://[::1", "http://a b", "http://h\r\nx: y", "http://h/a b",
        "grpc://h", "grpc://h:1/x", "http://u@h"}) {
    EXPECT_FALSE(ParseTarget(url).ok()) << url;
  }
}

}  // namespace
}  // namespace trireme::loadgen
