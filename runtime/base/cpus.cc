#include "runtime/base/cpus.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

#include "runtime/base/control_group.h"

namespace trireme {
namespace {

constexpr int64_t kMaxQuota = int64_t{1} << 40;  // of what is believed, in microseconds

// Takes a number above zero from the front of `text`.
std::optional<int64_t> TakeNumber(std::string_view* text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || value <= 0 || value > kMaxQuota) return std::nullopt;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return value;
}

int CpusOfAffinityMask() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::thread::hardware_concurrency());  // more CPUs than the mask holds
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::optional<int> ParseCpuQuota(std::string_view cpu_max) {
  const std::optional<int64_t> quota = TakeNumber(&cpu_max);
  if (!quota || !cpu_max.starts_with(' ')) return std::nullopt;
  cpu_max.remove_prefix(1);
  const std::optional<int64_t> period = TakeNumber(&cpu_max);
  if (!period || (!cpu_max.empty() && cpu_max != "\n")) return std::nullopt;
  return static_cast<int>(std::min<int64_t>((*quota + *period - 1) / *period, 1 << 20));
}

std::optional<int> CpuQuota(const std::string& root) {
  std::optional<int> smallest;
  const auto count = [&](const std::string& cpu_max) {
    const std::optional<int> quota = ParseCpuQuota(cpu_max);
    if (quota) smallest = std::min(*quota, smallest.value_or(*quota));
  };
  for (const std::string& folder : ControlGroupFolders(root, "")) {
    count(FirstLine(folder + "/cpu.max"));
  }
  for (const std::string& folder : ControlGroupFolders(root, "cpu")) {
    count(FirstLine(folder + "/cpu.cfs_quota_us") + " " + FirstLine(folder + "/cpu.cfs_period_us"));
  }
  return smallest;
}

int AvailableCpus() {
  const int cpus = std::max(1, CpusOfAffinityMask());
  return std::min(cpus, CpuQuota("").value_or(cpus));
}

}  // namespace trireme
