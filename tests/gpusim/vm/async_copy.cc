// cp.async of sm_80: copies that a lane starts and waits for by groups (PTX ISA, "cp.async").
//
// What is copied lands at a moment of the simulator's choice between start and wait; until the
// starting lane has waited nobody may touch the destination.
#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

void Land(Warp& warp, WarpAccess* global, PendingCopy* copy, int lane) {
  if (copy->done) return;
  copy->done = true;
  std::byte* to = warp.cta().shared(copy->shared);
  if (copy->bytes_read > 0) {
    global->Become(*copy->op, copy->bytes_read);
    const std::byte* from = global->Touch<AccessMode::kRead>(lane, copy->global);
    if (from == nullptr) return;
    std::memcpy(to, from, copy->bytes_read);
  }
  std::memset(to + copy->bytes_read, 0, copy->size - copy->bytes_read);
}

// cp.async.ca|cg.shared.global [dst], [src], size{, bytes to read}
Flow CopyAsync(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> to, from;
  warp.Addresses(op, 0, &to);
  const uint64_t* source = warp.In<uint64_t>(op.src[1]);
  const uint32_t size = static_cast<uint32_t>(op.imm & 0xff);
  const int64_t source_offset = static_cast<int64_t>(op.imm) >> 8;
  const uint32_t* bytes = op.num_src > 2 ? warp.In<uint32_t>(op.src[2]) : nullptr;
  for (size_t lane = 0; lane < kWarpSize; ++lane) {
    from[lane] = source[lane] + static_cast<uint64_t>(source_offset);
    to[lane] &= ~kWindowMask;
  }
  CountShared(warp, to, active, size);
  LaneMask reading = active;
  if (bytes != nullptr) {
    ForEachLane(active, [&](int lane) {
      if (bytes[lane] == 0) reading &= ~(LaneMask{1} << lane);
    });
  }
  CountGlobal(warp, from, reading, size);
  WarpAccess shared(warp, op, size, MemorySpace::kShared);
  WarpAccess global(warp, op, size, MemorySpace::kGlobal);
  // Which of them land now; the others do when they are waited for.
  const uint64_t now = warp.worker().random()();
  ForEachLane(active, [&](int lane) {
    const size_t l = static_cast<size_t>(lane);
    if ((from[l] & (size - 1)) != 0) {
      warp.ReportAt(op, lane, FindingKind::kMisaligned,
                    "the source of a copy is not aligned to its size");
    }
    if (shared.Touch<AccessMode::kWrite>(lane, to[l]) == nullptr) return;
    PendingCopy copy;
    copy.shared = static_cast<uint32_t>(to[l]);
    copy.global = from[l];
    copy.size = size;
    copy.bytes_read = bytes != nullptr ? std::min(bytes[lane], size) : size;
    copy.group = warp.copy_group[l];
    copy.op = &op;
    std::memset(warp.cta().shared(copy.shared), 0xff, size);
    warp.cta().shadow.BeginWrite(copy.shared, size);
    warp.worker().counters().cp_async_bytes += copy.bytes_read;
    if ((now >> lane & 1) != 0) Land(warp, &global, &copy, lane);
    warp.copies[l].push_back(copy);
  });
  return Flow::kNext;
}

Flow CommitGroup(Warp& warp, const Op&, LaneMask active) {
  ForEachLane(active, [&](int lane) { ++warp.copy_group[static_cast<size_t>(lane)]; });
  return Flow::kNext;
}

// Waits until at most op.imm of the newest groups are under way; all of them: ~0.
Flow WaitGroup(Warp& warp, const Op& op, LaneMask active) {
  WarpAccess global(warp, op, 0, MemorySpace::kGlobal);
  ForEachLane(active, [&](int lane) {
    const size_t l = static_cast<size_t>(lane);
    auto& copies = warp.copies[l];
    const uint64_t groups = warp.copy_group[l];
    const uint64_t below = op.imm == ~uint64_t{0} ? ~uint64_t{0}
                           : groups > op.imm      ? groups - op.imm
                                                  : 0;
    size_t done = 0;
    for (; done < copies.size() && copies[done].group < below; ++done) {
      PendingCopy& copy = copies[done];
      Land(warp, &global, &copy, lane);
      warp.cta().shadow.EndWrite(copy.shared, copy.size, warp.AsAccessor(lane));
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(done));
  });
  return Flow::kNext;
}

// cp.async.mbarrier.arrive: arrives on behalf of the lane once its copies so far have landed.
// op.imm: 1 for .noinc, whose arrival was counted when the mbarrier was initialised.
Flow MbarrierArrive(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    const size_t l = static_cast<size_t>(lane);
    const SharedPlace place = ResolveShared(warp, op, lane, warp.Address(op, 0, lane), 8);
    Mbarrier* const mbarrier = FindMbarrier(warp, op, lane, place, false);
    if (mbarrier == nullptr) return;
    if (op.imm == 0) ++mbarrier->pending;
    auto copies = std::exchange(warp.copies[l], {});
    warp.cta().cluster().async.Start([&warp, &op, lane, mbarrier, copies = std::move(copies)] {
      WarpAccess global(warp, op, 0, MemorySpace::kGlobal);
      for (PendingCopy copy : copies) {
        Land(warp, &global, &copy, lane);
        mbarrier->landed.push_back({&warp.cta(), copy.shared, copy.size, false, false});
      }
      Arrive(warp, op, lane, mbarrier, 1);
    });
  });
  return Flow::kNext;
}

absl::Status DecodeMbarrierArrive(Decoder& decoder, const Instruction& instruction, Op* op) {
  if (instruction.operands.size() != 1) return decoder.Unknown(instruction);
  op->imm = instruction.Has("noinc") ? 1 : 0;
  decoder.SetSrc(op, {decoder.Address(instruction.operands[0], op)});
  op->run = &MbarrierArrive;
  return absl::OkStatus();
}

absl::Status DecodeCopy(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kAsync;
  if (instruction.Has("commit_group") && !instruction.Has("bulk")) {
    op->run = &CommitGroup;
    return absl::OkStatus();
  }
  if (instruction.Has("wait_group") && !instruction.Has("bulk")) {
    op->imm = operands[0].bits;
    op->run = &WaitGroup;
    return absl::OkStatus();
  }
  if (instruction.Has("wait_all")) {
    op->imm = ~uint64_t{0};
    op->run = &WaitGroup;
    return absl::OkStatus();
  }
  if (instruction.Has("bulk")) return DecodeBulkCopy(decoder, instruction, op);
  if (instruction.Has("mbarrier")) return DecodeMbarrierArrive(decoder, instruction, op);
  if (!(instruction.Has("ca") || instruction.Has("cg")) || operands.size() < 3) {
    return decoder.Unknown(instruction);
  }
  Op source;
  const Slot from = decoder.Address(operands[1], &source);
  std::vector<Slot> sources = {decoder.Address(operands[0], op), from};
  if (operands.size() > 3) {
    if (decoder.SizeOf(operands[3], Type::kB32) != 4) return decoder.Unknown(instruction);
    sources.push_back(decoder.Read(operands[3], Type::kB32));
  }
  const uint64_t size = operands[2].bits;
  if (size != 4 && size != 8 && size != 16) return decoder.Unknown(instruction);
  op->imm = static_cast<uint64_t>(source.offset) << 8 | size;
  decoder.SetSrc(op, sources);
  op->run = &CopyAsync;
  return absl::OkStatus();
}

}  // namespace

void AddAsyncFamily(Families* families) { (*families)["cp"] = &DecodeCopy; }

}  // namespace trireme::gpusim
