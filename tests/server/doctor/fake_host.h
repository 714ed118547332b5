// A machine made of files, for the checks; and what findings look like.
#pragma once

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "server/doctor/doctor.h"
#include "tests/fakes/files.h"

namespace trireme::doctor {

class FakeHost {
 public:
  FakeHost() {
    host.root = files_.path();
    host.nvml_library = host.cuda_library = files_.File("no-such-library.so");
    host.kernels = "avx2";
    host.clock = [] { return ClockState{true, 3000}; };
    host.listen = [](const std::string&, int) { return absl::OkStatus(); };
    Write("/proc/cpuinfo", Processor(0, kAvx2) + Processor(1, kAvx2));
    Write("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n");
    Write("/proc/self/cgroup", "0::/system.slice/trireme.service\n");
    Write("/proc/meminfo",
          "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nSwapTotal: 0 kB\n");
    Write("/proc/self/limits", Limits("65536", "unlimited"));
    Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  }

  static constexpr char kAvx2[] = "fpu sse avx avx2 fma f16c bmi2";

  static std::string Processor(int number, const std::string& flags) {
    return "processor\t: " + std::to_string(number) + "\nflags\t\t: " + flags + "\n\n";
  }
  static std::string Limits(const std::string& files, const std::string& locked) {
    return "Limit                     Soft Limit           Hard Limit           Units     \n"
           "Max open files            " +
           files +
           "                 1048576              files     \n"
           "Max locked memory         " +
           locked + "              unlimited            bytes     \n";
  }

  void Write(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(host.root + path).parent_path());
    fakes::WriteFile(host.root + path, content);
  }
  void Remove(const std::string& path) { std::filesystem::remove_all(host.root + path); }

  Host host;

 private:
  fakes::TempDirectory files_;
};

inline auto Is(Level level, const std::string& check, const std::string& seen) {
  return testing::AllOf(testing::Field("level", &Finding::level, level),
                        testing::Field("check", &Finding::check, check),
                        testing::Field("seen", &Finding::seen, testing::HasSubstr(seen)));
}
inline auto Mends(const std::string& command) {
  return testing::Field("mend", &Finding::mend, testing::HasSubstr(command));
}

}  // namespace trireme::doctor
