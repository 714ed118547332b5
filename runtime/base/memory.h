// How much memory this process may still take. Sources: proc(5), cgroup-v2.rst and
// cgroup-v1/memory.rst of the kernel.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme {

// `root` is where the file system begins: "" is this machine's. All thread-safe.

// What this process may still take without swapping: free memory and page cache of the machine, or
// what its control group leaves, if that is less (docker --memory, systemd's MemoryMax=, limits of
// a pod). nullopt: /proc/meminfo does not tell.
std::optional<int64_t> AvailableMemoryBytes(const std::string& root = "");

// "MemTotal" and the like of /proc/meminfo; nullopt when it does not tell.
std::optional<int64_t> MeminfoBytes(const std::string& root, std::string_view key);

struct MemoryLimit {
  int64_t limit_bytes = 0;
  int64_t free_bytes = 0;  // less what is used; page cache, which gives way, is free

  bool operator==(const MemoryLimit&) const = default;
};

// Of our control group and those around it, the limit that leaves us least; nullopt: none is set.
std::optional<MemoryLimit> TightestMemoryLimit(const std::string& root);

}  // namespace trireme
