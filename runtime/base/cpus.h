// How many CPUs this process may keep busy.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme {

// Those of its affinity mask, but no more than the CPU quota of its control group (docker --cpus=2,
// systemd's CPUQuota=) allows, rounded up. At least 1. A machine of 64 cores of which two are ours
// would otherwise run 64 threads that the kernel stops most of the time. Thread-safe.
int AvailableCpus();

// The content of a control group's cpu.max (cgroup v2): "150000 100000", microseconds out of each
// period, is 2 CPUs. nullopt for "max 100000" and for what is no quota.
std::optional<int> ParseCpuQuota(std::string_view cpu_max);

// The smallest quota of our control group and those around it (v1 and v2). `root` is where the file
// system begins: "" is this machine's. nullopt: none is set.
std::optional<int> CpuQuota(const std::string& root);

}  // namespace trireme
