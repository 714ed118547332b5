// What tests ask the simulator, beside the CUDA API that they use as on a real machine.
//
// Environment, read at the first CUDA call:
//   TRIREME_GPUSIM_ARCH       sm_80 (default), sm_89, sm_90a, sm_100a
//   TRIREME_GPUSIM_DEVICES    how many devices there are (1)
//   TRIREME_GPUSIM_MEMORY_MB  of each (1024)
//   TRIREME_GPUSIM_SEED       of schedules and completion orders (1)
//   TRIREME_GPUSIM_PROFILE=1  prints what each launch did
// Findings go to stderr at once. A process that ends with findings which no test took has exit code
// kExitFindings. All thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/counters.h"
#include "tests/gpusim/vm/report.h"

namespace trireme::gpusim {

inline constexpr int kExitFindings = 86;

// What the checkers found since the last call. Work that was not waited for may still find more.
std::vector<Finding> TakeFindings();

// Of the kernel that ended last, on any device.
Counters CountersOfLastLaunch();

// From here on schedules follow this seed.
void SetSeed(uint64_t seed);

}  // namespace trireme::gpusim
