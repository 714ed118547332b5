#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/memory.h"
#include "tests/server/doctor/fake_host.h"

namespace trireme::doctor {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class MachineTest : public testing::Test, protected FakeHost {};

TEST_F(MachineTest, AnOrdinaryMachineHasNothingToMend) {
  Findings all = Examine(host, {});
  for (const Finding& finding : all) EXPECT_LE(finding.level, Level::kNote) << finding.seen;
  EXPECT_FALSE(HasError(all));
}

TEST_F(MachineTest, KernelsAndFeaturesAreNamed) {
  EXPECT_THAT(CheckCpu(host),
              Contains(Is(Level::kOk, "cpu.kernels", "avx2 kernels; the CPU has avx2 fma")));
  EXPECT_THAT(CheckCpu(host), Contains(Is(Level::kOk, "cpu.cores", "2 CPUs, allowed: 0-1")));
}

TEST_F(MachineTest, ACpuWithoutAvx2IsWarnedOf) {
  Write("/proc/cpuinfo", Processor(0, "fpu sse"));
  host.kernels = "portable";
  EXPECT_THAT(CheckCpu(host), Contains(AllOf(Is(Level::kWarning, "cpu.kernels", "none of AVX2"),
                                             Mends("-cpu host"))));
}

TEST_F(MachineTest, KernelsBelowWhatTheCpuHasAreNoted) {
  const std::string avx512 = " avx512f avx512bw avx512vl avx512dq avx512_vnni";
  Write("/proc/cpuinfo", Processor(0, kAvx2 + avx512));
  EXPECT_THAT(CheckCpu(host), Contains(AllOf(Is(Level::kNote, "cpu.kernels", "avx512_vnni"),
                                             Mends("TRIREME_CPU_ISA"))));
  host.kernels = "avx512";
  EXPECT_THAT(CheckCpu(host), Contains(Is(Level::kOk, "cpu.kernels", "avx512 kernels")));
}

TEST_F(MachineTest, CpuQuotaOfAnOuterGroupCounts) {
  Write("/sys/fs/cgroup/system.slice/cpu.max", "100000 100000\n");
  EXPECT_THAT(CheckCpu(host),
              Contains(AllOf(Is(Level::kNote, "cpu.cores", "quota: 1"), Mends("--cpus"))));
  Write("/sys/fs/cgroup/system.slice/cpu.max", "max 100000\n");
  EXPECT_THAT(CheckCpu(host), Contains(Is(Level::kOk, "cpu.cores", "2 CPUs")));
}

TEST_F(MachineTest, APowersavingGovernorIsNoted) {
  Write("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  EXPECT_THAT(CheckCpu(host),
              Contains(AllOf(Is(Level::kNote, "cpu.governor", "powersave"), Mends("cpupower"))));
}

TEST_F(MachineTest, MemoryIsShownAndLittleOfItWarnedOf) {
  EXPECT_THAT(CheckMemory(host),
              ElementsAre(Is(Level::kOk, "memory.available", "8 GiB of 16 GiB")));
  Write("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1048576 kB\n");
  EXPECT_THAT(CheckMemory(host),
              ElementsAre(Is(Level::kWarning, "memory.available", "1 GiB of 16 GiB")));
  Remove("/proc/meminfo");
  EXPECT_THAT(CheckMemory(host),
              ElementsAre(Is(Level::kWarning, "memory.available", "does not tell")));
  EXPECT_EQ(AvailableMemoryBytes(host.root), std::nullopt);
}

TEST_F(MachineTest, TheTightestControlGroupLimitsMemoryAndItsPageCacheDoesNotCount) {
  const std::string group = "/sys/fs/cgroup/system.slice/trireme.service";
  Write("/sys/fs/cgroup/system.slice/memory.max", "8589934592\n");
  Write(group + "/memory.max", "4294967296\n");
  Write(group + "/memory.current", "3221225472\n");
  Write(group + "/memory.stat",
        "anon 1073741824\nfile 2147483648\ninactive_file 2147483647\nactive_file 1\n");
  EXPECT_THAT(CheckMemory(host),
              Contains(Is(Level::kNote, "memory.limit", "allows 4 GiB, of which 3 GiB")));
  EXPECT_EQ(AvailableMemoryBytes(host.root), int64_t{3} << 30);
  Write(group + "/memory.max", "max\n");
  EXPECT_EQ(AvailableMemoryBytes(host.root), int64_t{8} << 30);
}

TEST_F(MachineTest, EagerSwappingIsNoted) {
  Write("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 1024 kB\n");
  Write("/proc/sys/vm/swappiness", "60\n");
  EXPECT_THAT(CheckMemory(host),
              Contains(AllOf(Is(Level::kNote, "memory.swap", "60"), Mends("vm.swappiness=1"))));
  Write("/proc/sys/vm/swappiness", "1\n");
  EXPECT_THAT(CheckMemory(host), Not(Contains(Is(Level::kNote, "memory.swap", ""))));
}

TEST_F(MachineTest, HugePages) {
  EXPECT_THAT(CheckHugePages(host), ElementsAre(Is(Level::kOk, "memory.huge_pages", "madvise")));
  Write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  EXPECT_THAT(CheckHugePages(host),
              ElementsAre(AllOf(Is(Level::kWarning, "memory.huge_pages", "off"),
                                Mends("echo madvise > /sys/kernel/mm"))));
  Remove("/sys/kernel/mm");
  EXPECT_THAT(CheckHugePages(host),
              ElementsAre(Is(Level::kNote, "memory.huge_pages", "no transparent")));
}

TEST_F(MachineTest, FewOpenFilesForManyConnectionsAreWarnedOf) {
  EXPECT_THAT(CheckLimits(host, 4096), Contains(Is(Level::kOk, "limits.open_files", "65536")));
  Write("/proc/self/limits", Limits("1024", "8388608"));
  EXPECT_THAT(
      CheckLimits(host, 4096),
      Contains(AllOf(Is(Level::kWarning, "limits.open_files", "1024"), Mends("ulimit -n"))));
  EXPECT_THAT(CheckLimits(host, 512), Contains(Is(Level::kOk, "limits.open_files", "1024")));
}

TEST_F(MachineTest, LockedMemoryMattersToFabricsOnly) {
  Write("/proc/self/limits", Limits("65536", "8388608"));
  EXPECT_THAT(CheckLimits(host, 1), Contains(Is(Level::kOk, "limits.locked_memory", "8 MiB")));
  Write("/sys/class/infiniband/efa_0/device/vendor", "0x1d0f\n");
  EXPECT_THAT(
      CheckLimits(host, 1),
      Contains(AllOf(Is(Level::kWarning, "limits.locked_memory", "8 MiB"), Mends("memlock"))));
}

TEST_F(MachineTest, Clock) {
  EXPECT_THAT(CheckClock(host), ElementsAre(Is(Level::kOk, "clock", "within 3 ms")));
  host.clock = [] { return ClockState{false, 16000000}; };
  EXPECT_THAT(CheckClock(host), ElementsAre(AllOf(Is(Level::kWarning, "clock", "not synchronised"),
                                                  Mends("timedatectl"))));
  host.clock = [] { return std::nullopt; };
  EXPECT_THAT(CheckClock(host), ElementsAre(Is(Level::kNote, "clock", "does not tell")));
}

TEST_F(MachineTest, TakenPortsAreErrorsAndThoseOfZeroAreNotTried) {
  host.listen = [](const std::string&, int port) {
    return port == 8001 ? absl::UnavailableError("Address already in use") : absl::OkStatus();
  };
  Settings settings;
  EXPECT_THAT(CheckPorts(host, settings),
              ElementsAre(Is(Level::kOk, "port", "HTTP can listen on 127.0.0.1:8000"),
                          AllOf(Is(Level::kError, "port",
                                   "gRPC cannot listen on 127.0.0.1:8001: Address already in use"),
                                Mends("--grpc-port"))));
  settings.http_port = 0;
  settings.grpc_port = -1;
  EXPECT_THAT(CheckPorts(host, settings), IsEmpty());
}

TEST_F(MachineTest, ListeningToTheWorldWithoutKeysIsAnError) {
  Settings settings;
  settings.address = "0.0.0.0";
  EXPECT_THAT(CheckPorts(host, settings),
              Contains(AllOf(Is(Level::kError, "port", "without keys"), Mends("--api-keys"))));
  settings.api_keys_file = "keys.txt";
  EXPECT_THAT(CheckPorts(host, settings), Not(Contains(Is(Level::kError, "port", ""))));
}

TEST_F(MachineTest, ThisMachineCanBeAsked) {
  Host real = ThisHost();
  Findings all = Examine(real, {});
  EXPECT_GE(all.size(), 8u);
  EXPECT_TRUE(real.listen("127.0.0.1", 0).ok());
  EXPECT_FALSE(real.listen("no.such.address.invalid", 1).ok());
}

TEST(Report, TextHasLevelsReasonsAndCounts) {
  const Findings findings = {{Level::kOk, "a", "fine"},
                             {Level::kError, "b", "bad", "it breaks", "mend it"},
                             {Level::kError, "c", "bad"}};
  EXPECT_EQ(TextReport(findings, false),
            "ok      a: fine\n"
            "error   b: bad\n        why:  it breaks\n        mend: mend it\n"
            "error   c: bad\n"
            "2 errors, 1 ok\n");
  EXPECT_THAT(TextReport(findings, true), HasSubstr("\033[31merror   \033[0mb: bad"));
}

TEST(Report, JsonHasTheSame) {
  EXPECT_EQ(JsonReport({{Level::kWarning, "a\"", "b", "c", "d"}}),
            "{\"version\":\"0.1.0\",\"ok\":true,\"counts\":{\"error\":0,\"warning\":1,\"note\":0,"
            "\"ok\":0},"
            "\"findings\":[{\"level\":\"warning\",\"check\":\"a\\\"\",\"seen\":\"b\",\"why\":\"c\","
            "\"mend\":\"d\"}]}\n");
}

}  // namespace
}  // namespace trireme::doctor
