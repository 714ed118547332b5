// Copies that the machine carries out by itself (PTX ISA, "cp.async.bulk", "cp.reduce.async.bulk"
// and their tensor forms): what they move differs, how they start and end does not.
//
// A copy into shared memory completes on an mbarrier: until its phase is complete nobody may touch
// the destination. A copy out of it belongs to a group of the lane that started it: until that lane
// has waited (wait_group.read) nobody may write the source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tests/gpusim/ptx/module.h"
#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/mbarrier.h"

namespace trireme::gpusim {

class Decoder;
struct Slot;

// A copy out of shared memory.
struct BulkStore {
  uint64_t group = 0;
  uint32_t at = 0, size = 0;  // the source, in the lane's own CTA
  bool read = false;          // the machine is done with the source
  bool read_waited = false;   // and the lane knows
  bool written = false;

  uint32_t time() const { return static_cast<uint32_t>(group) + 1; }  // the agent's that writes
};

// Of one lane.
struct BulkGroups {
  uint64_t committed = 0;
  std::vector<std::shared_ptr<BulkStore>> stores;
};

// Reports and aborts the launch; false.
bool RefuseCopy(Warp& warp, const Op& op, int lane, FindingKind kind, std::string what);

// Starts a copy of `size` bytes to the same place `at` of each CTA in `to`, which completes on the
// mbarrier at `mbarrier_at` of the same CTA. `read` delivers the bytes when they are needed, as
// `who` if it takes them from global memory. False: the launch is aborted.
using ReadBytes = std::function<bool(const GlobalAccessor& who, std::byte* bytes)>;
bool StartBulkLoad(Warp& warp, const Op& op, int lane, const std::vector<Cta*>& to, uint32_t at,
                   uint32_t size, uint32_t mbarrier_at, ReadBytes read);

// Starts a copy out of [at, at + size) of the warp's own CTA, for the lane's next group. `write`
// gets the bytes; `reduces`: it combines them with what is there.
using WriteBytes = std::function<void(const GlobalAccessor& who, const std::byte* bytes)>;
bool StartBulkStore(Warp& warp, const Op& op, int lane, uint32_t at, uint32_t size, bool reduces,
                    WriteBytes write);

// memory[i] = memory[i] op bytes[i], for elements of a type.
using Reduction = void (*)(std::byte* memory, const std::byte* bytes, size_t size);
enum class BulkUse : uint8_t { kRead, kWrite, kReduce };
// Device memory [address, address + size) of a copy that the machine carries out: f(bytes, offset,
// size) gets it part by part, each one locked. False: it is out of bounds, the launch aborted.
bool TouchGlobal(Warp& warp, const Op& op, const GlobalAccessor& who, uint64_t address,
                 uint64_t size, BulkUse use,
                 const std::function<void(std::byte* bytes, uint64_t at, uint64_t size)>& f);
// Writes or, with `reduce`, combines.
void WriteGlobal(Warp& warp, const Op& op, const GlobalAccessor& who, uint64_t address,
                 const std::byte* bytes, uint64_t size, Reduction reduce);

// "add" of f32; null: there is none.
Reduction ReductionOf(std::string_view what, ptx::Type type);
// What an opcode names: "add"; "".
std::string_view ReductionName(const ptx::Instruction& instruction);
Reduction ReductionNamed(const ptx::Instruction& instruction);
// The CTAs of a multicast's mask; none: reported, the launch aborted.
std::vector<Cta*> MulticastTargets(Warp& warp, const Op& op, int lane, uint32_t mask);

// An address operand becomes two sources, base and constant; `AddressAt` adds them up again.
void AddAddress(Decoder& decoder, const ptx::Operand& operand, std::vector<Slot>* sources);
uint64_t AddressAt(const Warp& warp, const Op& op, int i, int lane);

// cp.async.bulk and cp.reduce.async.bulk, tensor forms and groups included.
absl::Status DecodeBulkCopy(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeTensorCopy(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

}  // namespace trireme::gpusim
