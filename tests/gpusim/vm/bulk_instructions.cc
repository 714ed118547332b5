// cp.async.bulk and cp.reduce.async.bulk, not their tensor forms; groups.
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/bulk_copy.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

constexpr uint64_t kAlignment = 16;  // of addresses and sizes

bool CheckAligned(Warp& warp, const Op& op, int lane, uint64_t a, uint64_t b, uint64_t size) {
  if ((a | b | size) % kAlignment == 0 && size > 0) return true;
  return RefuseCopy(warp, op, lane, FindingKind::kMisaligned,
                    StrCat("addresses and size (", size, ") of a bulk copy are multiples of 16"));
}

// ---- cp.async.bulk.shared::cluster.global: dst, src, size, mbarrier {, CTA mask}

enum Flags : uint64_t { kMulticast = 1 };

Flow LoadGlobal(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    const uint32_t size = warp.In<uint32_t>(op.src[4])[lane];
    const uint64_t from = AddressAt(warp, op, 2, lane);
    const SharedPlace to = ResolveShared(warp, op, lane, AddressAt(warp, op, 0, lane), size);
    const SharedPlace on = ResolveShared(warp, op, lane, AddressAt(warp, op, 5, lane), 8);
    if (to.cta == nullptr || on.cta == nullptr) return;
    if (!CheckAligned(warp, op, lane, to.at, from, size)) return;
    std::vector<Cta*> ctas = {to.cta};
    if (op.imm & kMulticast) {
      ctas = MulticastTargets(warp, op, lane, warp.In<uint16_t>(op.src[7])[lane]);
    } else if (to.cta != on.cta) {
      RefuseCopy(warp, op, lane, FindingKind::kBadOperand,
                 "the mbarrier lies in another CTA than the copy");
      return;
    }
    StartBulkLoad(warp, op, lane, ctas, to.at, size, on.at,
                  [&warp, &op, from, size](const GlobalAccessor& who, std::byte* b) {
                    return TouchGlobal(warp, op, who, from, size, BulkUse::kRead,
                                       [b](const std::byte* bytes, uint64_t at, uint64_t part) {
                                         std::memcpy(b + at, bytes, part);
                                       });
                  });
  });
  return Flow::kNext;
}

// ---- cp{.reduce}.async.bulk.global.shared::cta: dst, src, size

Flow StoreGlobal(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const auto reduce = reinterpret_cast<Reduction>(op.imm);
  ForEachLane(active, [&](int lane) {
    const uint32_t size = warp.In<uint32_t>(op.src[4])[lane];
    const uint64_t to = AddressAt(warp, op, 0, lane);
    const SharedPlace from = ResolveShared(warp, op, lane, AddressAt(warp, op, 2, lane), size);
    if (from.cta == nullptr || !CheckAligned(warp, op, lane, to, from.at, size)) return;
    StartBulkStore(warp, op, lane, from.at, size, reduce != nullptr,
                   [&warp, &op, to, size, reduce](const GlobalAccessor& who, auto* b) {
                     WriteGlobal(warp, op, who, to, b, size, reduce);
                   });
  });
  return Flow::kNext;
}

// ---- cp{.reduce}.async.bulk.shared::cluster.shared::cta: dst, src, size, mbarrier

Flow CopyToCta(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const auto reduce = reinterpret_cast<Reduction>(op.imm);
  ForEachLane(active, [&](int lane) {
    const uint32_t size = warp.In<uint32_t>(op.src[4])[lane];
    const SharedPlace to = ResolveShared(warp, op, lane, AddressAt(warp, op, 0, lane), size);
    const SharedPlace from = ResolveShared(warp, op, lane, AddressAt(warp, op, 2, lane), size);
    const SharedPlace on = ResolveShared(warp, op, lane, AddressAt(warp, op, 5, lane), 8);
    if (to.cta == nullptr || from.cta == nullptr || on.cta == nullptr) return;
    if (!CheckAligned(warp, op, lane, to.at, from.at, size)) return;
    if (to.cta != on.cta) {
      RefuseCopy(warp, op, lane, FindingKind::kBadOperand,
                 "the mbarrier lies in another CTA than the copy");
      return;
    }
    Fault fault;
    if (from.cta->shadow.CheckRead(from.at, size, warp.AsAsyncAccessor(lane), &fault)) {
      warp.ReportAt(op, lane, fault.kind, fault.what);
    }
    from.cta->shadow.BeginRead(from.at, size);
    Mbarrier* const mbarrier = FindMbarrier(warp, op, lane, on, true);
    if (mbarrier == nullptr) return;
    mbarrier->landed.push_back({from.cta, from.at, size, true, true});
    const std::byte* old = to.cta->shared(to.at);
    std::vector<std::byte> before(old, old + size);
    StartBulkLoad(warp, op, lane, {to.cta}, to.at, size, on.at,
                  [from, size, reduce, before = std::move(before)](const auto&, std::byte* b) {
                    if (reduce == nullptr) {
                      std::memcpy(b, from.cta->shared(from.at), size);
                    } else {
                      std::memcpy(b, before.data(), size);
                      reduce(b, from.cta->shared(from.at), size);
                    }
                    return true;
                  });
  });
  return Flow::kNext;
}

// ---- groups

Flow CommitGroup(Warp& warp, const Op&, LaneMask active) {
  ForEachLane(active, [&](int lane) { ++warp.bulk_groups[static_cast<size_t>(lane)].committed; });
  return Flow::kNext;
}

// Until at most op.imm of the newest groups are under way; with `read` it is enough that their
// sources are free.
template <bool read>
Flow WaitGroup(Warp& warp, const Op& op, LaneMask active) {
  bool ready = true;
  const auto each = [&](auto&& f) {
    ForEachLane(active, [&](int lane) {
      BulkGroups& groups = warp.bulk_groups[static_cast<size_t>(lane)];
      for (const auto& store : groups.stores) {
        if (store->group + op.imm < groups.committed) f(lane, *store);
      }
    });
  };
  each([&](int, const BulkStore& store) { ready &= read ? store.read : store.written; });
  if (!ready) {
    if (warp.worker().explaining()) warp.waits_for = "its bulk copies";
    return Flow::kRetry;
  }
  each([&](int lane, BulkStore& store) {
    if (store.read_waited) return;
    store.read_waited = true;
    warp.cta().shadow.EndRead(store.at, store.size, warp.AsAccessor(lane));
  });
  ForEachLane(active, [&](int lane) {
    BulkGroups& groups = warp.bulk_groups[static_cast<size_t>(lane)];
    if (!read && warp.bulk_agent != 0 && groups.committed > op.imm) {
      const auto done = static_cast<uint32_t>(groups.committed - op.imm);
      warp.knowledge.generic.Mutable(warp.bulk_agent).Join({0, done, LaneMask{1} << lane});
    }
    std::erase_if(groups.stores,
                  [](const auto& store) { return store->read_waited && store->written; });
  });
  return Flow::kNext;
}

Flow Nothing(Warp&, const Op&, LaneMask) { return Flow::kNext; }

}  // namespace

void AddAddress(Decoder& decoder, const ptx::Operand& operand, std::vector<Slot>* sources) {
  Op op;
  const Slot base = decoder.Address(operand, &op);
  sources->push_back(base);
  // The constant also says how wide the base is.
  sources->push_back(
      decoder.Constant(static_cast<uint64_t>(op.offset) << 1 | (op.narrow_address ? 1 : 0), 8));
}

uint64_t AddressAt(const Warp& warp, const Op& op, int i, int lane) {
  const uint64_t constant = warp.In<uint64_t>(op.src[i + 1])[lane];
  const uint64_t offset = static_cast<uint64_t>(static_cast<int64_t>(constant) >> 1);
  if ((constant & 1) != 0) {
    return static_cast<uint32_t>(warp.In<uint32_t>(op.src[i])[lane] + offset);
  }
  return warp.In<uint64_t>(op.src[i])[lane] + offset;
}

absl::Status DecodeBulkCopy(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kAsync;
  if (instruction.Has("commit_group")) {
    op->run = &CommitGroup;
    return absl::OkStatus();
  }
  if (instruction.Has("wait_group")) {
    if (operands.size() != 1) return decoder.Unknown(instruction);
    op->imm = operands[0].bits;
    op->run = instruction.Has("read") ? &WaitGroup<true> : &WaitGroup<false>;
    return absl::OkStatus();
  }
  if (instruction.Has("tensor")) return DecodeTensorCopy(decoder, instruction, op);
  if (instruction.Has("prefetch")) {
    op->run = &Nothing;
    return absl::OkStatus();
  }
  if (operands.size() < 3 || instruction.Has("cp_mask") || instruction.Has("ignore_oob")) {
    return decoder.Unknown(instruction);
  }
  std::vector<Slot> sources;
  AddAddress(decoder, operands[0], &sources);
  AddAddress(decoder, operands[1], &sources);
  sources.push_back(decoder.Read(operands[2], Type::kB32));
  const bool reduces = instruction.parts[1] == "reduce";
  const Reduction reduction = reduces ? ReductionNamed(instruction) : nullptr;
  if (reduces && reduction == nullptr) return decoder.Unknown(instruction);
  const auto space = [&](size_t nth) -> std::string_view {
    for (const std::string_view part : instruction.parts) {
      if (part != "global" && !part.starts_with("shared")) continue;
      if (nth-- == 0) return part;
    }
    return "";
  };
  if (space(0) == "global") {
    op->imm = reinterpret_cast<uint64_t>(reduction);
    op->run = &StoreGlobal;
  } else if (operands.size() < 4) {
    return decoder.Unknown(instruction);
  } else {
    AddAddress(decoder, operands[3], &sources);
    if (space(1) == "global") {
      if (instruction.Has("multicast::cluster")) {
        if (operands.size() < 5) return decoder.Unknown(instruction);
        op->imm = kMulticast;
        sources.push_back(decoder.Read(operands[4], Type::kB16));
      }
      op->run = &LoadGlobal;
    } else {
      op->imm = reinterpret_cast<uint64_t>(reduction);
      op->run = &CopyToCta;
    }
  }
  decoder.SetSrc(op, sources);
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
