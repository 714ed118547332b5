// Mistakes that tests make the all-reduce have: each must be caught.
#pragma once

namespace trireme::cuda {

// What is wrong with the kernel, on purpose (tests/kernels/cuda/comm_mutants). The product has
// kNone alone.
enum class AllReduceMutant {
  kNone,
  kNoFirstMeeting,   // messages are read before they are there
  kNoSecondMeeting,  // shares, likewise
  kForgetsEpoch,     // every call takes itself for the first
  kOwnFirst,         // each rank adds up in an order of its own
  kRoundsTwice,      // one-shot rounds after each rank: not what two-shot does
};

}  // namespace trireme::cuda
