#include "runtime/base/cpus.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/fakes/files.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

TEST(ParseCpuQuota, WholeCpusRoundedUp) {
  EXPECT_EQ(ParseCpuQuota("200000 100000"), 2);
  EXPECT_EQ(ParseCpuQuota("200000 100000\n"), 2);
  EXPECT_EQ(ParseCpuQuota("150000 100000"), 2);
  EXPECT_EQ(ParseCpuQuota("50000 100000"), 1);
}

TEST(ParseCpuQuota, NoQuotaIsNone) {
  for (const char* text : {"max 100000", "max 100000\n", "", "max", "200000", "200000 ", "200000 0",
                           "-1 100000", "0 100000", "2 1 x", "99999999999999999999 1"}) {
    EXPECT_EQ(ParseCpuQuota(text), std::nullopt) << text;
  }
}

TEST(CpuQuota, SmallestOfTheGroupAndThoseAroundIt) {
  const fakes::TempDirectory files;
  const std::string& root = files.path();
  fs::create_directories(root + "/outer/inner");
  EXPECT_EQ(CpuQuota(root, "/outer/inner"), std::nullopt);
  std::ofstream(root + "/outer/cpu.max") << "300000 100000\n";
  std::ofstream(root + "/outer/inner/cpu.max") << "max 100000\n";
  EXPECT_EQ(CpuQuota(root, "/outer/inner"), 3);
  std::ofstream(root + "/outer/inner/cpu.max") << "700000 100000\n";
  EXPECT_EQ(CpuQuota(root, "/outer/inner"), 3);
  std::ofstream(root + "/outer/inner/cpu.max") << "100000 100000\n";
  EXPECT_EQ(CpuQuota(root, "/outer/inner"), 1);
  std::ofstream(root + "/cpu.max") << "500000 100000\n";  // a container's own group, seen as "/"
  EXPECT_EQ(CpuQuota(root, "/"), 5);
  EXPECT_EQ(CpuQuota(root, ""), 5);
  EXPECT_EQ(CpuQuota(root, "/not/there"), 5);
}

TEST(AvailableCpus, AtLeastOne) { EXPECT_GE(AvailableCpus(), 1); }

}  // namespace
}  // namespace trireme
