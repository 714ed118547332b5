// cp.async of sm_80: copies that a lane starts and waits for by groups (PTX ISA, "cp.async").
//
// What is copied lands at a moment of the simulator's choice between start and wait; until the
// starting lane has waited nobody may touch the destination. Lanes that fill a row (row.h) between
// them are one copy, for as long as they wait together.
#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/pending_copy.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// What a cp.async has yet to start.
struct NewCopies {
  const Op& op;
  uint32_t size;
  std::array<uint64_t, kWarpSize> to, from;
  std::array<uint8_t, kWarpSize> bytes_read;
  uint64_t now;  // by lane: whether it lands at once, else when it is waited for
};

// Copies of eight lanes that fill a row. False: lane by lane.
bool StartRow(Warp& warp, const NewCopies& copies, LaneMask active, int first, WarpAccess* shared,
              WarpAccess* global) {
  const auto f = static_cast<size_t>(first);
  PendingRow row;
  uint64_t other_groups = 0;
  uint8_t all_read = PendingRow::kLaneBytes;
  for (size_t i = 0; i < PendingRow::kLanes; ++i) {
    row.global[i] = copies.from[f + i];
    row.bytes_read[i] = copies.bytes_read[f + i];
    all_read &= row.bytes_read[i];
    other_groups |= warp.copy_group[f + i] ^ warp.copy_group[f];
  }
  const uint64_t address = copies.to[f] & ~uint64_t{kRowBytes - 1};
  if (other_groups != 0 || !RowOf(copies.to, active, PendingRow::kLaneBytes, first, &row.lanes) ||
      shared->TouchRow<AccessMode::kWrite>(address, row.lanes) == nullptr) {
    return false;
  }
  row.shared = static_cast<uint32_t>(address);
  row.group = warp.copy_group[f];
  row.op = &copies.op;
  row.reads_row = all_read == PendingRow::kLaneBytes &&
                  RowOf(copies.from, active, PendingRow::kLaneBytes, first, &row.from);
  warp.cta().shadow.BeginWriteRow(row.shared);
  for (const uint8_t bytes : row.bytes_read) warp.worker().counters().cp_async_bytes += bytes;
  if ((copies.now >> first & 1) != 0) {
    Land(warp, global, &row);
  } else {
    std::memset(warp.cta().shared(row.shared), 0xff, kRowBytes);
  }
  warp.row_copies.push_back(row);
  return true;
}

void StartLane(Warp& warp, const NewCopies& copies, int lane, WarpAccess* shared,
               WarpAccess* global) {
  const size_t l = static_cast<size_t>(lane);
  if ((copies.from[l] & (copies.size - 1)) != 0) {
    warp.ReportAt(copies.op, lane, FindingKind::kMisaligned,
                  "the source of a copy is not aligned to its size");
  }
  if (shared->Touch<AccessMode::kWrite>(lane, copies.to[l]) == nullptr) return;
  PendingCopy copy;
  copy.shared = static_cast<uint32_t>(copies.to[l]);
  copy.global = copies.from[l];
  copy.size = copies.size;
  copy.bytes_read = copies.bytes_read[l];
  copy.group = warp.copy_group[l];
  copy.op = &copies.op;
  std::memset(warp.cta().shared(copy.shared), 0xff, copies.size);
  warp.cta().shadow.BeginWrite(copy.shared, copies.size);
  warp.worker().counters().cp_async_bytes += copy.bytes_read;
  if ((copies.now >> lane & 1) != 0) Land(warp, global, &copy, lane);
  warp.copies[l].push_back(copy);
}

// cp.async.ca|cg.shared.global [dst], [src], size{, bytes to read}
Flow CopyAsync(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  NewCopies copies{op, static_cast<uint32_t>(op.imm & 0xff), {}, {}, {}, 0};
  const uint32_t size = copies.size;
  warp.Addresses(op, 0, &copies.to);
  const uint64_t* source = warp.In<uint64_t>(op.src[1]);
  const int64_t source_offset = static_cast<int64_t>(op.imm) >> 8;
  const uint32_t* bytes = op.num_src > 2 ? warp.In<uint32_t>(op.src[2]) : nullptr;
  LaneMask reading = active;
  uint64_t misaligned = 0;
  for (size_t lane = 0; lane < kWarpSize; ++lane) {
    copies.from[lane] = source[lane] + static_cast<uint64_t>(source_offset);
    copies.to[lane] &= ~kWindowMask;
    misaligned |= copies.from[lane] & (size - 1);
    copies.bytes_read[lane] =
        static_cast<uint8_t>(bytes != nullptr ? std::min(bytes[lane], size) : size);
    if (copies.bytes_read[lane] == 0) reading &= ~(LaneMask{1} << lane);
  }
  CountShared(warp, copies.to, active, size);
  CountGlobal(warp, copies.from, reading, size);
  WarpAccess shared(warp, op, size, MemorySpace::kShared);
  WarpAccess global(warp, op, size, MemorySpace::kGlobal);
  copies.now = warp.worker().random()();
  const bool rows =
      size == PendingRow::kLaneBytes && misaligned == 0 && shared.LanesHaveSeenTheSame();
  constexpr int kLanes = PendingRow::kLanes;
  for (int first = 0; first < kWarpSize; first += kLanes) {
    if (rows && StartRow(warp, copies, active, first, &shared, &global)) continue;
    ForEachLane(active & 0xffu << first,
                [&](int lane) { StartLane(warp, copies, lane, &shared, &global); });
  }
  return Flow::kNext;
}

Flow CommitGroup(Warp& warp, const Op&, LaneMask active) {
  ForEachLane(active, [&](int lane) { ++warp.copy_group[static_cast<size_t>(lane)]; });
  return Flow::kNext;
}

// Waits until at most op.imm of the newest groups are under way; all of them: ~0.
Flow WaitGroup(Warp& warp, const Op& op, LaneMask active) {
  WarpAccess global(warp, op, 0, MemorySpace::kGlobal);
  const auto below = [&](size_t lane) {
    const uint64_t groups = warp.copy_group[lane];
    if (op.imm == ~uint64_t{0}) return ~uint64_t{0};
    return groups > op.imm ? groups - op.imm : 0;
  };
  LaneMask split = 0;  // of rows that not all of their lanes wait for
  std::erase_if(warp.row_copies, [&](PendingRow& row) {
    LaneMask waiting = 0;
    ForEachLane(active & row.mask(), [&](int lane) {
      if (row.group < below(static_cast<size_t>(lane))) waiting |= LaneMask{1} << lane;
    });
    if (waiting != row.mask()) {
      split |= waiting != 0 ? row.mask() : 0;
      return false;
    }
    Land(warp, &global, &row);
    warp.cta().shadow.EndWriteRow(row.shared, row.lanes, warp.AsAccessor(row.lanes.first));
    return true;
  });
  if (split != 0) SplitRows(warp, split);
  ForEachLane(active, [&](int lane) {
    const size_t l = static_cast<size_t>(lane);
    auto& copies = warp.copies[l];
    if (copies.empty()) return;
    const uint64_t end = below(l);
    size_t done = 0;
    for (; done < copies.size() && copies[done].group < end; ++done) {
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
  SplitRows(warp, active);
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
