#include "runtime/base/memory.h"

#include <algorithm>
#include <fstream>

#include "runtime/base/control_group.h"

namespace trireme {
namespace {

// v1 says "no limit" with the largest number of pages that it can count.
constexpr int64_t kNoLimit = int64_t{1} << 60;

// The number that a file consists of; nullopt for "max" and for what is no such file.
std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

// Of lines "KEY VALUE ...", the value.
std::optional<int64_t> ReadLine(const std::string& path, std::string_view wanted) {
  std::ifstream file(path);
  std::string key, rest;
  for (int64_t value = 0; file >> key >> value; std::getline(file, rest)) {
    if (key == wanted) return value;
  }
  return std::nullopt;
}

struct Hierarchy {
  const char* controller;  // of ControlGroupFolders
  const char *limit, *used;
  const char* cache[2];  // lines of memory.stat: the file pages that can be reclaimed; tmpfs cannot
};
constexpr Hierarchy kHierarchies[] = {
    {"", "/memory.max", "/memory.current", {"inactive_file", "active_file"}},
    {"memory",
     "/memory.limit_in_bytes",
     "/memory.usage_in_bytes",
     {"total_inactive_file", "total_active_file"}},
};

}  // namespace

std::optional<int64_t> MeminfoBytes(const std::string& root, std::string_view key) {
  const auto kib = ReadLine(root + "/proc/meminfo", std::string(key) + ":");
  return kib ? std::optional(*kib << 10) : std::nullopt;
}

std::optional<MemoryLimit> TightestMemoryLimit(const std::string& root) {
  std::optional<MemoryLimit> tightest;
  for (const Hierarchy& hierarchy : kHierarchies) {
    for (const std::string& folder : ControlGroupFolders(root, hierarchy.controller)) {
      const auto limit = ReadNumber(folder + hierarchy.limit);
      if (!limit || *limit >= kNoLimit) continue;
      int64_t used = ReadNumber(folder + hierarchy.used).value_or(0);
      for (const char* line : hierarchy.cache)
        used -= ReadLine(folder + "/memory.stat", line).value_or(0);
      const int64_t free = std::max<int64_t>(0, *limit - std::max<int64_t>(0, used));
      if (!tightest || free < tightest->free_bytes) tightest = {*limit, free};
    }
  }
  return tightest;
}

std::optional<int64_t> AvailableMemoryBytes(const std::string& root) {
  auto bytes = MeminfoBytes(root, "MemAvailable");
  if (const auto limit = TightestMemoryLimit(root); bytes && limit)
    bytes = std::min(*bytes, limit->free_bytes);
  return bytes;
}

}  // namespace trireme
