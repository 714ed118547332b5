// tcgen05: the fifth generation's matrix instructions (PTX ISA, "TensorCore 5th Generation Family
// Instructions"). One thread starts them; they run on by themselves, those of a thread in order,
// and tell an mbarrier when it commits.
//
// Known: alloc, dealloc, relinquish_alloc_permit; ld and st of shapes 32x32b, 16x64b, 16x128b and
// 16x256b; cp; mma of kinds f16, tf32, f8f6f4 (8-bit elements), i8, mxf8f6f4, mxf4 and mxf4nvf4
// with sums in f32 or s32, A in shared or tensor memory, by one CTA (M 64 or 128) or a pair (M
// 256); commit; wait; fences. Anything else is refused by name.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/tensor_memory.h"

namespace trireme::gpusim {

// Of one warp.
struct TensorWarp {
  uint32_t data_agent = 0;   // its ld and st
  uint32_t issue_agent = 0;  // what its lanes start
  uint32_t epoch = 1;        // the time of its ld and st; a fence::before_thread_sync ends it
  Clock fenced;              // what its tcgen05 operations come after

  struct Transfer {  // an ld or st that has not been waited for
    const Op* op = nullptr;
    TensorPlace place;
    bool writes = false;
    std::vector<std::array<uint32_t, kWarpSize>> values;  // by register
  };
  std::vector<Transfer> transfers;

  struct Queue {
    uint32_t issued = 0;
    std::deque<std::function<void()>> steps;
  };
  std::array<Queue, kWarpSize> queues;  // by lane
};
TensorWarp& TensorOf(Warp& warp);
// As an asynchronous operation of `lane` or (lane -1) as ld or st of the whole warp.
TensorAccessor AsTensorAccessor(Warp& warp, int lane);

// Appends to what `lane` has started: `run` is called when all before it is done.
void StartTensorWork(Warp& warp, int lane, std::function<void()> run);

// Whether the warp may end. False: *what says what it left behind.
bool TensorWorkIsWaitedFor(const Warp& warp, std::string* what);
// The same of a CTA.
bool TensorMemoryIsGivenBack(Cta& cta, std::string* what);

// tcgen05.mma as its opcode has it: in op.imm.
struct TensorMmaForm {
  enum class Kind : uint8_t { kF16, kTf32, kF8f6f4, kI8, kMxf8f6f4, kMxf4, kMxf4nvf4 };
  Kind kind = Kind::kF16;
  bool pair = false;  // cta_group::2
  bool a_in_tensor_memory = false;
  bool masked = false;  // four registers of lanes that are not written
  uint8_t scales = 0;   // scale factors along K of a row; 0: the kind has none

  uint64_t Pack() const {
    return static_cast<uint64_t>(kind) | (pair ? 16u : 0u) | (a_in_tensor_memory ? 32u : 0u) |
           (masked ? 64u : 0u) | uint64_t{scales} << 8;
  }
  static TensorMmaForm Unpack(uint64_t bits) {
    return {static_cast<Kind>(bits & 15), (bits & 16) != 0, (bits & 32) != 0, (bits & 64) != 0,
            static_cast<uint8_t>(bits >> 8)};
  }
};

// The families' parts.
absl::Status DecodeTensorMma(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeTensorCp(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeTensorTransfer(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

}  // namespace trireme::gpusim
