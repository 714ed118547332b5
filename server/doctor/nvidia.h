// What NVIDIA's driver libraries tell, when they are there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace trireme::doctor {

struct Gpu {
  std::string name;
  int64_t memory_bytes = 0, free_bytes = 0;
  int compute_major = 0, compute_minor = 0;
  int nvlinks = 0;  // that are up
};

struct NvmlFacts {
  std::string driver_version;
  int cuda_version = 0;  // 12040: the newest that the driver runs, 12.4
  std::vector<Gpu> gpus;
};

// Loads `library` (NVML) for the time of the call. NOT_FOUND: it is not there; FAILED_PRECONDITION
// with NVML's own words: it is, and does not work.
absl::StatusOr<NvmlFacts> AskNvml(const std::string& library);

// cuDriverGetVersion of libcuda; nullopt when it cannot be loaded.
std::optional<int> AskCudaVersion(const std::string& library);

}  // namespace trireme::doctor
