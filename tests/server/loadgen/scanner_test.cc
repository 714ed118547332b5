// Streams of events, cut anywhere, and what the events say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/loadgen/answer_reader.h"
#include "server/loadgen/answer_scanner.h"
#include "server/loadgen/sse_scanner.h"

namespace trireme::loadgen {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Events(const std::vector<std::string_view>& pieces) {
  SseScanner scanner;
  std::vector<std::string> events;
  for (const std::string_view piece : pieces) {
    EXPECT_TRUE(scanner.Feed(piece, [&](std::string_view data) { events.emplace_back(data); }));
  }
  return events;
}

constexpr std::string_view kStream =
    ": hello\r\n\r\ndata: {\"a\":1}\n\ndata:two\rdata:  lines\r\revent: x\ndata\nid: 1\n\n"
    "database: no\n\ndata: last\r\n\r\ndata: unfinished";

TEST(SseScannerTest, EventsAreTheSameWhereverTheBytesAreCut) {
  const auto whole = Events({kStream});
  EXPECT_THAT(whole, ElementsAre("{\"a\":1}", "two\n lines", "", "last"));
  for (size_t first = 0; first <= kStream.size(); ++first) {
    for (size_t second = first; second <= kStream.size(); ++second) {
      EXPECT_EQ(Events({kStream.substr(0, first), kStream.substr(first, second - first),
                        kStream.substr(second)}),
                whole)
          << first << " " << second;
    }
  }
}

TEST(SseScannerTest, EventsComeByteByByte) {
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < kStream.size(); ++i) bytes.push_back(kStream.substr(i, 1));
  EXPECT_EQ(Events(bytes), Events({kStream}));
}

TEST(SseScannerTest, AnEndlessEventIsRefused) {
  const auto ignore = [](std::string_view) {};
  const std::string block(1 << 16, 'x');
  SseScanner line, lines;
  bool line_fits = line.Feed("data: ", ignore), lines_fit = true;
  for (int i = 0; i < 32; ++i) {
    line_fits = line_fits && line.Feed(block, ignore);
    lines_fit = lines_fit && lines.Feed("data: " + block + "\n", ignore);
  }
  EXPECT_FALSE(line_fits);
  EXPECT_FALSE(lines_fit);
}

TEST(AnswerScannerTest, TextOfAnyDialectIsATokenEvent) {
  AnswerScanner scanner;
  for (const char* data :
       {R"({"choices":[{"delta":{"content":"x"}}]})", R"({"choices": [{"text": "\n"}]})",
        R"({"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm"}}]})",
        R"({"choices":[{"delta":{"reasoning":"hm"},"finish_reason":null}],"usage":null})"}) {
    const AnswerEvent& event = scanner.Scan(data);
    EXPECT_TRUE(event.valid && event.has_text) << data;
    EXPECT_FALSE(event.finished || event.has_usage || event.has_error) << data;
  }
}

TEST(AnswerScannerTest, WhatOnlyLooksLikeTextIsNone) {
  AnswerScanner scanner;
  for (const char* data :
       {R"({"choices":[{"delta":{"role":"assistant","content":""}}]})",
        R"({"choices":[{"delta":{"content":null},"finish_reason":"stop"}]})", R"({"choices":[]})",
        R"({"text":"x","content":"y"})",
        R"({"choices":[{"logprobs":{"content":[{"token":"a","text":"b"}]},"delta":{}}]})",
        R"({"other":[{"text":"x"}]})", R"({"choices":[{"delta":{"tool":{"content":"x"}}}]})",
        R"({"choices":[{"delta":{"a":"\"content\":\"x\""}}]})", "{}", "[]", "1"}) {
    const AnswerEvent& event = scanner.Scan(data);
    EXPECT_TRUE(event.valid) << data;
    EXPECT_FALSE(event.has_text) << data;
  }
}

TEST(AnswerScannerTest, FinishUsageAndDoneAreSeen) {
  AnswerScanner scanner;
  EXPECT_TRUE(scanner.Scan(R"({"choices":[{"text":"","finish_reason":"length"}]})").finished);
  const AnswerEvent& event = scanner.Scan(
      R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16,)"
      R"("completion_tokens_details":{"cached_tokens":99},)"
      R"("prompt_tokens_details":{"cached_tokens":4}}})");
  EXPECT_TRUE(event.has_usage);
  EXPECT_EQ(event.usage.prompt_tokens, 7);
  EXPECT_EQ(event.usage.completion_tokens, 9);
  EXPECT_EQ(event.usage.cached_tokens, 4);
  EXPECT_TRUE(scanner.Scan("[DONE]").done);
}

TEST(AnswerScannerTest, ErrorsHaveTheirMessage) {
  AnswerScanner scanner;
  EXPECT_EQ(scanner.Scan(R"({"error":{"type":"x","message":"no \"room\""}})").error_message,
            "no \"room\"");
  EXPECT_EQ(scanner.Scan(R"({"error":"plain"})").error_message, "plain");
  EXPECT_TRUE(scanner.Scan(R"({"error":{}})").has_error);
  EXPECT_FALSE(scanner.Scan(R"({"error":null,"choices":[]})").has_error);
}

TEST(AnswerScannerTest, HostileEventsAreInvalidAndTheNextOneIsRead) {
  AnswerScanner scanner;
  for (const std::string& data :
       {std::string(), std::string("{"), std::string("{}x"), std::string("\xff"),
        std::string("{\"a\":\"\x01\"}"), std::string(100000, '['),
        R"({"choices":[{"text":")" + std::string("\xc3") + "\"}]}"}) {
    EXPECT_FALSE(scanner.Scan(data).valid) << data.substr(0, 40);
    EXPECT_TRUE(scanner.Scan(R"({"choices":[{"text":"x"}]})").has_text);
  }
  scanner.Scan(R"({"usage":{"prompt_tokens":99999999999999999999}})");
}

class AnswerReaderTest : public testing::Test {
 protected:
  Outcome Read(int status, const char* type, const std::vector<std::string_view>& pieces) {
    Outcome outcome;
    reader_.Begin(&outcome, /*stream=*/true);
    reader_.Head(status, type);
    for (const std::string_view piece : pieces) reader_.Body(piece, TimePoint());
    reader_.End();
    return outcome;
  }
  AnswerReader reader_;
};

constexpr std::string_view kToken = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";

TEST_F(AnswerReaderTest, AWholeStreamSucceeds) {
  const Outcome outcome =
      Read(200, "text/event-stream; charset=utf-8", {kToken, kToken, "data: [DONE]\n\n"});
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.token_events, 2);
  EXPECT_EQ(outcome.gaps_ns.size(), 1u);
}

TEST_F(AnswerReaderTest, FailuresAreToldApart) {
  EXPECT_EQ(Read(200, "text/event-stream", {kToken}).error, "protocol");  // ended early
  EXPECT_EQ(Read(200, "application/json", {"{}"}).error, "protocol");
  EXPECT_EQ(Read(200, "text/event-stream", {"data: nonsense\n\n"}).error, "protocol");
  const Outcome failed = Read(200, "text/event-stream",
                              {kToken, "data: {\"error\":{\"message\":\"step failed\"}}\n\n"});
  EXPECT_EQ(failed.error, "stream");
  EXPECT_EQ(failed.error_message, "step failed");
  const Outcome full = Read(429, "application/json", {"{\"error\":{\"mess", "age\":\"full\"}}"});
  EXPECT_EQ(full.error, "http_429");
  EXPECT_EQ(full.error_message, "full");
  EXPECT_THAT(Read(502, "text/html", {"<b>\x1b[31m"}).error_message, HasSubstr("\\x1b"));
}

TEST_F(AnswerReaderTest, TheNextAnswerIsNotTouchedByTheLast) {
  Read(200, "text/event-stream", {"data: {\"choices\""});
  EXPECT_EQ(Read(200, "text/event-stream", {kToken, "data: [DONE]\n\n"}).error, "");
  Read(500, "text/plain", {"oops"});
  EXPECT_THAT(reader_.body(), "oops");
  Read(200, "text/event-stream", {"data: [DONE]\n\n"});
  EXPECT_THAT(reader_.body(), IsEmpty());
}

}  // namespace
}  // namespace trireme::loadgen
