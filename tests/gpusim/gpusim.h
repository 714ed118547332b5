// What tests ask the simulator, beside the CUDA API that they use as on a real machine.
//
// Environment, read at the first CUDA call:
//   TRIREME_GPUSIM_ARCH       sm_80 (default), sm_89, sm_90a, sm_100a
//   TRIREME_GPUSIM_DEVICES    how many devices there are (1)
//   TRIREME_GPUSIM_MEMORY_MB  of each (1024)
//   TRIREME_GPUSIM_SEED       of schedules and completion orders (1)
//   TRIREME_GPUSIM_THREADS    of each launch (2). With 1 a seed repeats a run exactly, even of
//   kernels
//                             whose clusters talk to each other through global memory
//   TRIREME_GPUSIM_PROFILE=1  prints what each launch did
//   TRIREME_GPUSIM_FAULTS     "alloc@3,sticky%1000/1": the third allocation fails, and one in 1000
//                             kernels of device 1, by seed. Kinds in the order of FaultKind: alloc,
//                             launch, sticky, loss, slow, hang, nccl, cublaslt
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

// From here on schedules and faults follow this seed.
void SetSeed(uint64_t seed);

enum class FaultKind : uint8_t {
  kAllocation,    // of device or page-locked memory: cudaErrorMemoryAllocation
  kLaunch,        // of a kernel: cudaErrorLaunchOutOfResources
  kSticky,        // a kernel fails when it runs: cudaErrorLaunchFailure until cudaDeviceReset
  kDeviceLoss,    // the same with cudaErrorUnknown, for good: the device has fallen off the bus
  kSlowRank,      // the device comes late to a collective operation
  kHungRank,      // it never comes
  kNcclCall,      // any that has a result but Destroy and Abort: ncclSystemError
  kCublasLtCall,  // any that has a status but Destroy: CUBLAS_STATUS_INTERNAL_ERROR
};

struct FaultPlan {
  FaultKind kind = FaultKind::kAllocation;
  int device = -1;      // -1: any
  uint64_t call = 0;    // the how manieth of its sort from now on, from 1; 0: by seed
  uint64_t one_in = 1;  // by seed: one call in so many
};
void InjectFault(const FaultPlan& plan);
void ClearFaults();

}  // namespace trireme::gpusim
