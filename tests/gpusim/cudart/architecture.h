// The limits of the devices that can be simulated (CUDA C++ Programming Guide, "Compute
// Capabilities"; the vendors' data sheets).
#pragma once

#include <cstdint>
#include <string_view>

namespace trireme::gpusim {

struct Architecture {
  std::string_view name;  // "sm_90a"
  std::string_view device_name;
  int major, minor;
  int num_sms;
  int l2_bytes;
  int shared_bytes_per_sm;
  int shared_bytes_optin;  // of one CTA that asked for more than kSharedBytesDefault
  int threads_per_sm;
  int ctas_per_sm;
  int max_cluster;  // portable; 1: no clusters

  static constexpr int kSharedBytesDefault = 48 * 1024;
  static constexpr int kSharedBytesReserved = 1024;  // of each CTA, by the system
  static constexpr int kThreadsPerCta = 1024;
  static constexpr int kRegistersPerSm = 64 * 1024;
};

// Null: not known.
const Architecture* ArchitectureNamed(std::string_view name);

}  // namespace trireme::gpusim
