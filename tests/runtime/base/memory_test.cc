#include "runtime/base/memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/fakes/files.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGib = int64_t{1} << 30;

class MemoryTest : public testing::Test {
 protected:
  MemoryTest() { Write("/proc/meminfo", "MemTotal: 25165824 kB\nMemAvailable:   8388608 kB\n"); }
  void Write(const std::string& path, const std::string& content) {
    fs::create_directories(fs::path(files_.path() + path).parent_path());
    fakes::WriteFile(files_.path() + path, content);
  }
  std::optional<int64_t> Available() { return AvailableMemoryBytes(files_.path()); }

  fakes::TempDirectory files_;
};

TEST_F(MemoryTest, WithoutALimitTheMachineDecides) {
  EXPECT_EQ(Available(), 8 * kGib);
  Write("/proc/self/cgroup", "0::/a.slice/b.service\n");
  Write("/sys/fs/cgroup/a.slice/memory.max", "max\n");
  EXPECT_EQ(Available(), 8 * kGib);
  EXPECT_EQ(TightestMemoryLimit(files_.path()), std::nullopt);
}

TEST_F(MemoryTest, MachineThatDoesNotTellIsUnknown) {
  Write("/proc/meminfo", "MemTotal: 25165824 kB\n");
  EXPECT_EQ(Available(), std::nullopt);
  EXPECT_EQ(MeminfoBytes(files_.path(), "MemTotal"), 24 * kGib);
}

TEST_F(MemoryTest, LimitOfANestedGroupCounts) {  // systemd's MemoryMax=
  Write("/proc/self/cgroup", "0::/a.slice/b.service\n");
  Write("/sys/fs/cgroup/a.slice/b.service/memory.max", "3221225472\n");
  Write("/sys/fs/cgroup/a.slice/b.service/memory.current", "1073741824\n");
  EXPECT_EQ(Available(), 2 * kGib);
  Write("/sys/fs/cgroup/a.slice/memory.max", "1073741824\n");  // of all services together
  EXPECT_EQ(Available(), 1 * kGib);
}

TEST_F(MemoryTest, LimitOfAContainerIsThatOfItsMount) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "3221225472\n");
  EXPECT_EQ(Available(), 3 * kGib);
  Write("/sys/fs/cgroup/memory.current", "9000000000\n");  // above it: nothing is left
  EXPECT_EQ(Available(), 0);
}

TEST_F(MemoryTest, PageCacheGivesWayButFilesInMemoryDoNot) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "4294967296\n");
  Write("/sys/fs/cgroup/memory.current", "4294967296\n");
  Write("/sys/fs/cgroup/memory.stat",
        "anon 0\nfile 4294967296\nshmem 2147483648\ninactive_anon 2147483648\n"
        "inactive_file 1073741824\nactive_file 1073741824\n");
  EXPECT_EQ(Available(), 2 * kGib);
}

TEST_F(MemoryTest, FirstVersionOfControlGroupsCounts) {
  Write("/proc/self/cgroup", "4:cpu:/x\n5:hugetlb,memory:/docker/0123\n0::/\n");
  const std::string mount = "/sys/fs/cgroup/memory";  // of a container: its own group
  Write(mount + "/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Available(), 8 * kGib);
  EXPECT_EQ(TightestMemoryLimit(files_.path()), std::nullopt);
  Write(mount + "/memory.limit_in_bytes", "3221225472\n");
  Write(mount + "/memory.usage_in_bytes", "2147483648\n");
  Write(mount + "/memory.stat", "total_inactive_file 536870912\ntotal_active_file 536870912\n");
  EXPECT_EQ(Available(), 2 * kGib);
}

TEST(AvailableMemory, OfThisMachineIsKnown) { EXPECT_GT(AvailableMemoryBytes().value_or(0), 0); }

}  // namespace
}  // namespace trireme
