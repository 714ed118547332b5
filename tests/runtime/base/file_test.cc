#include "runtime/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/fakes/files.h"

namespace trireme {
namespace {

absl::StatusCode CodeOf(const std::string& path) { return ReadFile(path, 1000).status().code(); }

TEST(ReadFile, GivesAllBytesUpToTheLimit) {
  const fakes::TempDirectory files;
  const std::string path = files.File("a");
  for (const size_t size : {size_t{0}, size_t{1}, size_t{16 << 10}, size_t{100'000}}) {
    const std::string content(size, '\0');
    fakes::WriteFile(path, content);
    struct stat info = {};
    EXPECT_EQ(ReadFile(path, size, &info).value(), content);
    EXPECT_EQ(static_cast<size_t>(info.st_size), size);
    if (size > 0) {
      EXPECT_EQ(ReadFile(path, size - 1).status().code(), absl::StatusCode::kResourceExhausted);
    }
  }
}

TEST(ReadFile, RefusesWhatIsNoRegularFileWithoutWaiting) {
  const fakes::TempDirectory files;
  ASSERT_EQ(mkfifo(files.File("pipe").c_str(), 0600), 0);
  for (const std::string& path : {files.File("pipe"), files.path(), std::string("/dev/zero")}) {
    const absl::Status status = ReadFile(path, 1000).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_NE(status.message().find(path), status.message().npos);
  }
  EXPECT_EQ(CodeOf(files.File("none")), absl::StatusCode::kNotFound);
}

TEST(ReadFile, ReadsWhatDoesNotTellItsSize) {
  EXPECT_NE(ReadFile("/proc/self/status", 1 << 20).value().find("Name:"), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/status", 10).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace trireme
