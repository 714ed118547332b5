#include "runtime/base/mapped_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace trireme {
namespace {

std::string WriteFile(const std::string& name, size_t size) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << std::string(size, 'x');
  return path;
}

TEST(MappedFile, MissingFileIsNotFound) {
  EXPECT_EQ(MappedFile::Open("/nonexistent/file").status().code(), absl::StatusCode::kNotFound);
}

TEST(MappedFile, DirectoryAndEmptyFileAreRefused) {
  EXPECT_FALSE(MappedFile::Open(testing::TempDir()).ok());
  EXPECT_FALSE(MappedFile::Open(WriteFile("empty", 0)).ok());
}

TEST(MappedFile, ContentIsReadable) {
  auto file = MappedFile::Open(WriteFile("content", 10000));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->bytes().size(), 10000u);
  EXPECT_EQ((*file)->bytes()[9999], 'x');
  EXPECT_FALSE((*file)->damaged());
}

#if !defined(__SANITIZE_ADDRESS__)  // ASan takes SIGBUS for itself
TEST(MappedFile, TruncationWhileMappedIsNoticedAndDoesNotKill) {
  const std::string path = WriteFile("truncated", 64 << 10);
  auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  EXPECT_EQ((*file)->bytes()[40000], 0);
  EXPECT_TRUE((*file)->damaged());
  EXPECT_EQ((*file)->bytes()[10], 'x');
}
#endif

}  // namespace
}  // namespace trireme
