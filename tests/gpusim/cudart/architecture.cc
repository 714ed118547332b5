#include "tests/gpusim/cudart/architecture.h"

namespace trireme::gpusim {
namespace {

constexpr int kKib = 1024, kMib = 1024 * 1024;

constexpr Architecture kArchitectures[] = {
    {"sm_80", "simulated A100 (sm_80)", 8, 0, 108, 40 * kMib, 164 * kKib, 163 * kKib, 2048, 32, 1},
    {"sm_89", "simulated L40S (sm_89)", 8, 9, 142, 96 * kMib, 100 * kKib, 99 * kKib, 1536, 24, 1},
    {"sm_90a", "simulated H100 (sm_90a)", 9, 0, 132, 50 * kMib, 228 * kKib, 227 * kKib, 2048, 32,
     8},
    {"sm_100a", "simulated B200 (sm_100a)", 10, 0, 148, 126 * kMib, 228 * kKib, 227 * kKib, 2048,
     32, 8},
};

}  // namespace

const Architecture* ArchitectureNamed(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

}  // namespace trireme::gpusim
