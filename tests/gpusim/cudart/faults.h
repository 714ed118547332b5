// Faults on demand: counts calls and says which of them fails.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {

// What is counted, each for itself.
enum class FaultPoint : uint8_t { kAllocation, kLaunch, kKernel, kCollective, kNccl, kCublasLt };

// "alloc@3,launch%50/1": plans as gpusim.h writes them. INVALID_ARGUMENT names the part that is
// wrong.
absl::StatusOr<std::vector<FaultPlan>> ParseFaults(std::string_view text);

// Thread-safe.
class Faults {
 public:
  explicit Faults(uint64_t seed) : random_(seed) {}

  void Add(const FaultPlan& plan);
  void Clear();
  void Seed(uint64_t seed);
  // A call of `device` is made: the fault that befalls it. It is told on stderr.
  std::optional<FaultKind> Next(FaultPoint point, int device);

 private:
  struct Counted {
    FaultPlan plan;
    uint64_t calls = 0;
  };
  std::mutex mu_;
  std::vector<Counted> plans_;  // guarded by mu_, as random_
  std::mt19937_64 random_;
};

}  // namespace trireme::gpusim
