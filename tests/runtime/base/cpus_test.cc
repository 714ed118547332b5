#include "runtime/base/cpus.h"

#include <gtest/gtest.h>

#include <filesystem>
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

class CpuQuotaTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& content) {
    fs::create_directories(fs::path(files_.path() + path).parent_path());
    fakes::WriteFile(files_.path() + path, content);
  }
  std::optional<int> Quota() { return CpuQuota(files_.path()); }

  fakes::TempDirectory files_;
};

TEST_F(CpuQuotaTest, SmallestOfTheGroupAndThoseAroundIt) {
  const std::string mount = "/sys/fs/cgroup";
  EXPECT_EQ(Quota(), std::nullopt);
  Write("/proc/self/cgroup", "0::/outer/inner\n");
  EXPECT_EQ(Quota(), std::nullopt);
  Write(mount + "/outer/cpu.max", "300000 100000\n");
  Write(mount + "/outer/inner/cpu.max", "max 100000\n");
  EXPECT_EQ(Quota(), 3);
  Write(mount + "/outer/inner/cpu.max", "700000 100000\n");
  EXPECT_EQ(Quota(), 3);
  Write(mount + "/outer/inner/cpu.max", "100000 100000\n");
  EXPECT_EQ(Quota(), 1);
}

TEST_F(CpuQuotaTest, OfAContainerTheMountIsItsOwn) {
  Write("/sys/fs/cgroup/cpu.max", "500000 100000\n");
  for (const char* group : {"/", "/not/there", "/../outside"}) {
    Write("/proc/self/cgroup", "0::" + std::string(group) + "\n");
    EXPECT_EQ(Quota(), 5) << group;
  }
}

TEST_F(CpuQuotaTest, OfTheFirstVersionToo) {
  Write("/proc/self/cgroup", "5:memory:/b\n3:cpu,cpuacct:/a\n0::/\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Quota(), std::nullopt);
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(Quota(), 3);
}

TEST(AvailableCpus, AtLeastOne) { EXPECT_GE(AvailableCpus(), 1); }

}  // namespace
}  // namespace trireme
