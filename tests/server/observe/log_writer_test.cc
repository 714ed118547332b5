#include "server/observe/log_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "runtime/base/log.h"
#include "runtime/base/strings.h"
#include "server/observe/audit_log.h"
#include "server/observe/trace_file.h"
#include "tests/server/observe/finished_requests.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

class LogWriterTest : public testing::Test {
 protected:
  LogWriterTest() {
    ConfigureLog(LogLevel::kError, LogFormat::kText);
    std::filesystem::create_directories(folder_);
  }
  ~LogWriterTest() override { std::filesystem::remove_all(folder_); }

  LogFile Open(const std::string& path, LogFile::Mode mode = LogFile::Mode::kLines) {
    auto file = LogFile::Open(path, mode);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  DropCounter Dropped() {
    return [this](int64_t records) { dropped_ += records; };
  }
  static std::string Read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  static LogWriter::Format Line(std::string text) {
    return [text = std::move(text)](std::string* out) { *out += text + "\n"; };
  }

  const std::string folder_ = StrCat(testing::TempDir(), "trireme_log_", getpid());
  const std::string path_ = folder_ + "/log";
  std::atomic<int64_t> dropped_ = 0;
};

TEST_F(LogWriterTest, LinesComeInOrderAndBehindWhatWasThere) {
  std::ofstream(path_) << "before\n";
  std::string expected = "before\n";
  LogWriter writer(Open(path_), {.name = "log", .max_queued = 100000, .dropped = Dropped()});
  for (int i = 0; i < 10000; ++i) {
    writer.Append(Line(StrCat(i)));
    StrAppend(&expected, i, "\n");
  }
  writer.Close(absl::Minutes(5));
  EXPECT_EQ(Read(path_), expected);
  EXPECT_EQ(dropped_, 0);
}

TEST_F(LogWriterTest, AFullQueueDropsAndCounts) {
  std::promise<void> entered, go_on;
  LogWriter writer(Open(path_), {.name = "log", .max_queued = 3, .dropped = Dropped()});
  writer.Append([&](std::string* out) {
    entered.set_value();
    go_on.get_future().wait();
    *out += "slow\n";
  });
  entered.get_future().wait();
  for (int i = 0; i < 10; ++i) writer.Append(Line(StrCat(i)));
  EXPECT_EQ(dropped_, 7);
  go_on.set_value();
  writer.Close(absl::Minutes(5));
  EXPECT_EQ(Read(path_), "slow\n0\n1\n2\n");
  writer.Append(Line("after the end"));
  EXPECT_EQ(dropped_, 8);
}

TEST_F(LogWriterTest, AThreadThatHangsIsLeftBehind) {
  auto go_on = std::make_shared<std::promise<void>>();
  auto left = std::make_shared<std::promise<void>>();
  auto gone = left->get_future();
  std::promise<void> started;
  {
    LogWriter writer(Open(path_), {.name = "log", .dropped = Dropped()});
    writer.Append([go_on, left, &started](std::string*) {
      started.set_value();
      go_on->get_future().wait();
      left->set_value();
    });
    started.get_future().wait();
    writer.Append(Line("never"));
    EXPECT_FALSE(writer.Close(absl::Milliseconds(20)));
  }
  EXPECT_EQ(dropped_, 2) << "the queue, and the batch in hand";
  go_on->set_value();
  gone.wait();
}

// Standard error as a full pipe that nobody reads, until it is destroyed.
class StuckStandardError {
 public:
  StuckStandardError() {
    EXPECT_EQ(pipe(ends_), 0);
    fcntl(ends_[1], F_SETFL, O_NONBLOCK);
    const std::string block(1 << 16, 'x');
    while (write(ends_[1], block.data(), block.size()) > 0 || write(ends_[1], "x", 1) == 1) {
    }
    fcntl(ends_[1], F_SETFL, 0);
    before_ = dup(STDERR_FILENO);
    dup2(ends_[1], STDERR_FILENO);
  }
  ~StuckStandardError() {
    dup2(before_, STDERR_FILENO);
    close(ends_[0]);  // whoever is stuck gets EPIPE
    close(ends_[1]);
    close(before_);
  }

 private:
  int ends_[2], before_;
};

TEST_F(LogWriterTest, AStuckProcessLogHoldsUpNobodyWhoAppends) {
  signal(SIGPIPE, SIG_IGN);  // as `serve` does
  LogWriter writer(Open("/dev/full"), {.name = "log", .max_queued = 10, .dropped = Dropped()});
  std::atomic<bool> stuck = true;
  auto standard_error = std::make_unique<StuckStandardError>();
  // The first failure is counted, and logged, which hangs.
  auto appended = std::async(std::launch::async, [&] {
    writer.Append(Line("first"));
    while (dropped_ == 0 && stuck) usleep(1000);
    for (int i = 0; i < 1000; ++i) writer.Append(Line(StrCat(i)));
  });
  const bool held_up = appended.wait_for(std::chrono::seconds(60)) != std::future_status::ready;
  stuck = false;
  standard_error.reset();
  appended.wait();
  EXPECT_FALSE(held_up);
  writer.Close(absl::Minutes(5));
}

TEST_F(LogWriterTest, ARotatedFileIsFollowedByANewOne) {
  LogFile file = Open(path_);
  ASSERT_TRUE(file.Append("one\n").ok());
  ASSERT_TRUE(file.Reopen().ok());  // nothing was moved
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".1").c_str()), 0);
  ASSERT_TRUE(file.Append("two\n").ok());
  ASSERT_TRUE(file.Reopen().ok());
  ASSERT_TRUE(file.Append("three\n").ok());
  EXPECT_EQ(Read(path_ + ".1"), "one\ntwo\n");
  EXPECT_EQ(Read(path_), "three\n");
  // The folder is gone: it goes on in the old file.
  std::filesystem::rename(folder_, folder_ + "_moved");
  EXPECT_FALSE(file.Reopen().ok());
  EXPECT_TRUE(file.Append("four\n").ok());
  std::filesystem::rename(folder_ + "_moved", folder_);
  EXPECT_EQ(Read(path_), "three\nfour\n");
}

TEST_F(LogWriterTest, AFileHasOneWriter) {
  LogFile file = Open(path_);
  EXPECT_THAT(std::string(LogFile::Open(path_, LogFile::Mode::kLines).status().message()),
              HasSubstr("another process"));
}

TEST_F(LogWriterTest, AFullDiskIsAnErrorAndNothingElse) {
  LogFile file = Open("/dev/full");
  EXPECT_FALSE(file.Append("x\n").ok());
  EXPECT_FALSE(LogFile::Open("/dev/full", LogFile::Mode::kRecord).ok()) << "no regular file";
  const std::string fifo = folder_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_FALSE(LogFile::Open(fifo, LogFile::Mode::kLines).ok()) << "nobody reads it";
}

TEST_F(LogWriterTest, ATraceThatIsFullIsStillWhole) {
  std::ofstream(path_) << "an older trace";
  EXPECT_THAT(std::string(TraceFile::Open("-", absl::UnixEpoch(), Dropped()).status().message()),
              HasSubstr("standard output"));
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  testing::internal::CaptureStderr();
  auto trace = TraceFile::Open(path_, absl::UnixEpoch(), Dropped(), /*max_bytes=*/5000);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(Read(path_), "an older trace") << "until the start has succeeded";
  ASSERT_TRUE((*trace)->Begin().ok());
  absl::Time now = absl::UnixEpoch();
  for (uint64_t step = 1; step <= 100; ++step) {
    now += absl::Milliseconds(1);
    (*trace)->OnStep({.step = step, .begin = now, .planned = now, .executed = now, .end = now});
  }
  (*trace)->OnRequest(Shared(Chat()));
  (*trace)->Close(absl::Minutes(5));
  const std::string text = Read(path_), logged = testing::internal::GetCapturedStderr();
  EXPECT_LT(text.size(), 7000u);
  const size_t warning = logged.find("trace file is full");
  EXPECT_NE(warning, std::string::npos);
  EXPECT_EQ(logged.find("trace file is full", warning + 1), std::string::npos) << "once";
  const boost::json::value events = boost::json::parse(text);
  const int64_t written = std::count_if(
      events.as_array().begin(), events.as_array().end(),
      [](const boost::json::value& event) { return event.at("name").as_string() == "step"; });
  EXPECT_GT(written, 0);
  EXPECT_EQ(dropped_, 100 - written + 1);
}

// ---- The audit log, where a record that is lost must leave a trace.

TEST_F(LogWriterTest, AuditRecordsThatWereLostAreAGapInAWholeChain) {
  // A file-size limit stands for a full disk: writes beyond it fail. SIGXFSZ is ignored as by
  // `serve`.
  signal(SIGXFSZ, SIG_IGN);
  auto log = AuditLog::Open(path_, Dropped());
  ASSERT_TRUE(log.ok()) << log.status();
  const auto size = [this] { return std::filesystem::file_size(path_); };
  (*log)->OnRequest(Shared(Chat()));
  while (size() == 0) usleep(1000);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full = {.rlim_cur = size() + 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int i = 0; i < 3; ++i) (*log)->OnRequest(Shared(Chat()));
  while (dropped_ < 3) usleep(1000);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  (*log)->OnEvent("stop", nullptr);
  (*log)->Close(absl::Minutes(5));
  const std::string text = Read(path_);
  EXPECT_THAT(text, HasSubstr(R"("event":"gap","records":3)"));
  std::istringstream file(text);
  AuditVerifier verifier;
  EXPECT_TRUE(verifier.Add(file).ok()) << text;
  EXPECT_EQ(verifier.num_records(), 3u);
  EXPECT_TRUE(verifier.stopped());
}

TEST_F(LogWriterTest, ARotatedAuditLogIsCarriedOnAtOnce) {
  auto log = AuditLog::Open(path_, Dropped());
  ASSERT_TRUE(log.ok()) << log.status();
  (*log)->OnRequest(Shared(Chat()));
  while (std::filesystem::file_size(path_) == 0) usleep(1000);
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".1").c_str()), 0);
  (*log)->Reopen();
  // Without another request: a node that is killed now leaves no empty file.
  while (!std::filesystem::exists(path_) || std::filesystem::file_size(path_) == 0) usleep(1000);
  (*log)->Close(absl::Minutes(5));
  EXPECT_THAT(Read(path_), HasSubstr(R"("event":"rotated")"));
  log->reset();
  // What starts next goes on from there.
  log = AuditLog::Open(path_, Dropped());
  ASSERT_TRUE(log.ok()) << log.status();
  (*log)->OnEvent("start", nullptr);
  (*log)->Close(absl::Minutes(5));
  std::ifstream first(path_ + ".1"), second(path_);
  AuditVerifier verifier;
  EXPECT_TRUE(verifier.Add(first).ok());
  const absl::Status status = verifier.Add(second);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(verifier.end().seq, 3u);
  EXPECT_EQ(verifier.restarts(), 0);
}

TEST_F(LogWriterTest, TheProcessLogNamesTheChainsEndFromTimeToTime) {
  ConfigureLog(LogLevel::kInfo, LogFormat::kText);
  testing::internal::CaptureStderr();
  auto log = AuditLog::Open(path_, Dropped());
  ASSERT_TRUE(log.ok()) << log.status();
  for (uint64_t i = 0; i < AuditLog::kCheckpointRecords + 300; ++i) {
    (*log)->OnRequest(Shared(Chat()));
  }
  (*log)->Close(absl::Minutes(5));
  const std::string logged = testing::internal::GetCapturedStderr();
  const size_t checkpoint = logged.find("audit log checkpoint");
  ASSERT_NE(checkpoint, std::string::npos) << logged;
  // The hash that it names is one of the chain's.
  const size_t hash = logged.find("last_hash", checkpoint);
  ASSERT_NE(hash, std::string::npos);
  const size_t begin = logged.find_first_of("0123456789abcdef", hash + sizeof("last_hash"));
  EXPECT_THAT(Read(path_), HasSubstr(StrCat(R"("hash":")", logged.substr(begin, 64))));
}

TEST_F(LogWriterTest, AnAuditLogThatHangsNamesNoEnd) {
  ConfigureLog(LogLevel::kInfo, LogFormat::kText);
  auto never = std::make_shared<std::promise<void>>();
  std::promise<void> started;
  testing::internal::CaptureStderr();
  {
    auto log = AuditLog::Open(path_, Dropped());
    ASSERT_TRUE(log.ok()) << log.status();
    // Hangs until the process ends: behind the record the thread would use OpenSSL, which ends,
    // too.
    (*log)->OnEvent("slow", [&started, never](JsonWriter*) {
      started.set_value();
      never->get_future().wait();
    });
    started.get_future().wait();
    (*log)->Close(absl::Milliseconds(20));
  }
  const std::string logged = testing::internal::GetCapturedStderr();
  EXPECT_THAT(logged, HasSubstr("its end is not known"));
  EXPECT_THAT(logged, testing::Not(HasSubstr("audit log closed")));
  EXPECT_EQ(dropped_, 1);
}

TEST_F(LogWriterTest, ATornAuditLineIsCutOffWhereverItWasTorn) {
  std::string whole;
  {
    auto log = AuditLog::Open(path_, Dropped());
    ASSERT_TRUE(log.ok());
    for (int i = 0; i < 2; ++i) (*log)->OnRequest(Shared(Chat()));
    (*log)->Close(absl::Minutes(5));
    whole = Read(path_);
  }
  const size_t first_end = whole.find('\n') + 1;
  for (size_t size = 0; size < whole.size(); size += size == first_end ? 1 : 13) {
    std::ofstream(path_) << whole.substr(0, size);
    auto log = AuditLog::Open(path_, Dropped());
    ASSERT_TRUE(log.ok()) << size << log.status();
    (*log)->OnEvent("start", nullptr);
    (*log)->Close(absl::Minutes(5));
    std::ifstream file(path_);
    AuditVerifier verifier;
    ASSERT_TRUE(verifier.Add(file).ok()) << size;
    const bool torn = size != 0 && size != first_end;
    EXPECT_EQ(verifier.num_records(), (size >= first_end ? 1u : 0u) + (torn ? 2u : 1u)) << size;
  }
}

}  // namespace
}  // namespace trireme
