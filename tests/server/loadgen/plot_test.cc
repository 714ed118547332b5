// Charts, their files, and the reports in text and JSON.
#include "server/loadgen/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <boost/json.hpp>

#include "server/loadgen/chart.h"
#include "server/loadgen/report.h"

namespace trireme::loadgen {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Ten answers of three tokens, and one refusal.
LevelResult MakeLevel(int concurrency) {
  const TimePoint begin;
  Summary summary({.ttft = absl::Milliseconds(25)}, begin);
  for (int i = 0; i < 10; ++i) {
    Outcome outcome;
    outcome.intended = outcome.sent = begin + milliseconds(100 * i);
    for (int token = 0; token < 3; ++token) {
      outcome.Token(outcome.intended + milliseconds(20 + i + 10 * token));
    }
    outcome.end = outcome.intended + milliseconds(60);
    outcome.has_usage = true;
    outcome.usage = {.prompt_tokens = 100, .completion_tokens = 3, .cached_tokens = 16};
    summary.Add(outcome);
  }
  Outcome refused;
  refused.error = "http_429";
  refused.error_message = "full <&>";
  summary.Add(refused);
  summary.Close(begin + milliseconds(2000), 0.5);
  Level level;
  level.concurrency = concurrency;
  return {level, std::move(summary)};
}

BenchResult Ramp() {
  BenchResult result;
  result.target = *ParseTarget("http://h:1/<p>&");
  result.model = "tiny\xc3\xa9";
  for (const int concurrency : {1, 2, 4}) result.levels.push_back(MakeLevel(concurrency));
  result.knee = Knee{2, 5, "because"};
  return result;
}

BenchResult Single() {
  BenchResult result = Ramp();
  result.levels.erase(result.levels.begin() + 1, result.levels.end());
  result.knee.reset();
  return result;
}

TEST(TicksTest, AreRoundAndWithinTheAxis) {
  EXPECT_THAT(Ticks(0, 10, false), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(Ticks(0.9, 12, true), ElementsAre(1, 2, 5, 10));
  EXPECT_THAT(Ticks(1, 1e4, true), ElementsAre(1, 10, 100, 1000, 1e4));
}

TEST(PlotTest, SvgEscapesWhatServersAndUrlsSay) {
  const std::string svg = Plot(Single(), "x.svg");
  EXPECT_TRUE(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("http://h:1/&lt;p&gt;&amp;"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(Plot(Ramp(), "x.svg"), HasSubstr(">knee</text>"));
}

uint32_t BigEndian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

TEST(PlotTest, PngHasSoundChunksAndEveryRow) {
  for (const BenchResult& result : {Single(), Ramp()}) {
    const std::string png = Plot(result, "x.png");
    ASSERT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n"));
    std::string names, data;
    size_t at = 8;
    while (at + 12 <= png.size()) {
      const uint32_t size = BigEndian(png, at);
      ASSERT_LE(at + 12 + size, png.size());
      const auto* checked = reinterpret_cast<const Bytef*>(png.data()) + at + 4;
      EXPECT_EQ(crc32(0, checked, size + 4), BigEndian(png, at + 8 + size));
      names += png.substr(at + 4, 4);
      if (png.compare(at + 4, 4, "IDAT") == 0) data = png.substr(at + 8, size);
      at += 12 + size;
    }
    EXPECT_EQ(at, png.size());
    EXPECT_EQ(names, "IHDRIDATIEND");
    const size_t width = BigEndian(png, 16), height = BigEndian(png, 20);
    uLongf size = height * (1 + 3 * width);
    std::string rows(size + 1, '\0');
    uLongf room = rows.size();
    ASSERT_EQ(uncompress(reinterpret_cast<Bytef*>(rows.data()), &room,
                         reinterpret_cast<const Bytef*>(data.data()), data.size()),
              Z_OK);
    EXPECT_EQ(room, size);
  }
}

TEST(PlotTest, ARunWithoutAnyAnswerIsDrawn) {
  BenchResult result = Single();
  result.levels.clear();
  EXPECT_THAT(Plot(result, "x.svg"), HasSubstr("</svg>"));
  Summary nothing({}, TimePoint{});
  nothing.Close(TimePoint{}, 0);
  result.levels.push_back({Level{}, nothing});
  EXPECT_THAT(Plot(result, "x.svg"), Not(HasSubstr("nan")));
  EXPECT_THAT(Plot(result, "x.png"), HasSubstr("IEND"));
}

TEST(ReportTest, JsonHasTheNumbers) {
  const auto report = boost::json::parse(JsonReport({}, Ramp()));
  EXPECT_EQ(report.at("trireme_bench").as_int64(), kReportFormat);
  EXPECT_EQ(report.at("levels").as_array().size(), 3u);
  const auto& level = report.at("levels").at(0);
  EXPECT_EQ(level.at("requests").at("completed").as_int64(), 10);
  EXPECT_EQ(level.at("requests").at("within_slo").as_int64(), 6);  // TTFT of 20 to 25 ms
  EXPECT_EQ(level.at("errors").at("http_429").as_int64(), 1);
  EXPECT_EQ(level.at("requests_per_s").to_number<double>(), 5);
  EXPECT_EQ(level.at("goodput_requests_per_s").to_number<double>(), 3);
  EXPECT_EQ(level.at("tokens_in").as_int64(), 1000);
  EXPECT_EQ(level.at("tokens_out_per_s").to_number<double>(), 15);
  EXPECT_EQ(level.at("itl_ms").at("max").to_number<double>(), 10);
  EXPECT_EQ(level.at("ttft_ms").at("max").to_number<double>(), 29);
  EXPECT_EQ(level.at("client").at("cpu_s_per_1000_token_events").to_number<double>(), 16.6667);
  EXPECT_EQ(report.at("knee").at("concurrency").to_number<double>(), 2);
}

TEST(ReportTest, TextNamesErrorsAndKnee) {
  const std::string text = TextReport({}, Ramp());
  EXPECT_THAT(text, HasSubstr("error http_429: 1 (full <&>)"));
  EXPECT_THAT(text, HasSubstr("knee: concurrency 2"));
  EXPECT_THAT(text, HasSubstr("16666.67 ms of CPU per 1000 token events"));
}

}  // namespace
}  // namespace trireme::loadgen
