#include "server/observe/telemetry.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/base/log.h"
#include "runtime/base/strings.h"
#include "tests/server/observe/finished_requests.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TelemetryTest : public testing::Test {
 protected:
  TelemetryTest() {
    signal(SIGPIPE, SIG_IGN);
    ConfigureLog(LogLevel::kError, LogFormat::kText);
    std::filesystem::create_directories(folder_);
  }
  ~TelemetryTest() override { std::filesystem::remove_all(folder_); }

  static std::unique_ptr<Telemetry> Open(const TelemetryOptions& options) {
    auto opened = Telemetry::Open("demo", options, &Clock::Monotonic());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  static std::string Read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  const std::string folder_ = StrCat(testing::TempDir(), "trireme_telemetry_", getpid());
};

TEST_F(TelemetryTest, ASinkThatIsStuckTakesNothingFromTheOthersAtTheEnd) {
  const std::string fifo = folder_ + "/fifo", trace = folder_ + "/trace.json";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);  // and never reads
  auto telemetry = Open({.access_log = fifo, .trace_file = trace});
  ASSERT_TRUE(telemetry->OnStart("demo").ok());
  for (int i = 0; i < 1000; ++i) telemetry->OnRequest(Chat());  // more than a pipe holds
  telemetry->Close(absl::Seconds(5));
  const std::string text = Read(trace);
  EXPECT_TRUE(text.ends_with("]\n")) << "the trace has its end";
  EXPECT_NO_THROW(boost::json::parse(text));
  EXPECT_THAT(telemetry->metrics().Render(),
              Not(HasSubstr(R"(trireme_telemetry_dropped_total{sink="access_log"} 0)")))
      << "the batch in hand is counted";
  close(reader);  // the thread that was left behind gets EPIPE
}

TEST_F(TelemetryTest, WhoHasNoKeyDecidesNothingAboutTraces) {
  const std::string log = folder_ + "/access.log";
  TelemetryOptions options = {.access_log = log};
  options.otlp = {.url = "http://127.0.0.1:1/v1/traces", .sample_ratio = 0};
  auto telemetry = Open(options);
  FinishedRequest asked = Chat();
  asked.trace = NewTrace(1);
  asked.trace.parent_id = NewSpanId();
  asked.trace.tracestate = "vendor=1";
  const std::string trace_id = ToHex(asked.trace.trace_id);
  FinishedRequest refused = asked, begun_here = Chat();
  asked.id = "asked";
  refused.id = "refused";
  refused.key_refused = true;
  refused.http_status = 401;
  begun_here.id = "begun-here";
  for (const FinishedRequest& request : {asked, refused, begun_here}) telemetry->OnRequest(request);
  telemetry->Close(absl::Seconds(5));
  std::istringstream lines(Read(log));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_THAT(line, HasSubstr(trace_id));
  for (const char* id : {"refused", "begun-here"}) {
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_THAT(line, HasSubstr(id));
    EXPECT_THAT(line, Not(HasSubstr("trace_id"))) << "not exported, so no id to look up";
  }
  EXPECT_THAT(telemetry->metrics().Render(),
              HasSubstr(R"(trireme_telemetry_dropped_total{sink="otlp"} 1)"))
      << "only the request with a key was to be exported";
}

}  // namespace
}  // namespace trireme
