// Every HTTP request in flight has a connection, and every connection a descriptor of this process.
#pragma once

#include <cstdint>

namespace trireme::loadgen {

// What is not for connections: files, timers, resolvers, libraries.
inline constexpr int64_t kReservedDescriptors = 64;

// Raises the soft limit (RLIMIT_NOFILE) to the hard one and returns how many descriptors that
// leaves for connections; at least 0.
int64_t ConnectionDescriptors();

}  // namespace trireme::loadgen
