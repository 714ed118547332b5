#include "tests/gpusim/vm/cluster.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/tcgen05.h"
#include "tests/gpusim/vm/warp_sync.h"
#include "tests/gpusim/vm/wgmma.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// ---- barrier.cluster

void Advance(Cluster::Barrier* barrier) {
  ++barrier->phase;
  barrier->released.Join(barrier->gathered);
  barrier->gathered.Clear();
}

// op.imm: 1 for .relaxed.
Flow ClusterArrive(Warp& warp, const Op& op, LaneMask active) {
  if (op.aligned && !Together(warp, op, warp.live(), active)) return Flow::kRetry;
  if ((warp.at_cluster_barrier & active) != 0) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kBarrierMisuse,
                  "arrives at the cluster barrier twice without waiting");
    return Flow::kNext;
  }
  Cluster::Barrier& barrier = warp.cta().cluster().barrier;
  if (op.imm == 0) warp.ReleaseInto(active, &barrier.gathered);
  warp.at_cluster_barrier |= active;
  warp.cluster_phase = barrier.phase;
  return Flow::kNext;
}

Flow ClusterWait(Warp& warp, const Op& op, LaneMask active) {
  if (op.aligned && !Together(warp, op, warp.live(), active)) return Flow::kRetry;
  if ((active & ~warp.at_cluster_barrier) != 0) {
    warp.ReportAt(op, std::countr_zero(active & ~warp.at_cluster_barrier),
                  FindingKind::kBarrierMisuse,
                  "waits at the cluster barrier without having arrived");
    return Flow::kNext;
  }
  Cluster& cluster = warp.cta().cluster();
  Cluster::Barrier& barrier = cluster.barrier;
  if (barrier.phase == warp.cluster_phase) {
    const int missing = cluster.missing_threads();
    if (missing > 0) {
      if (warp.worker().explaining()) {
        warp.waits_for = StrCat("the cluster barrier (", missing, " threads are missing)");
      }
      return Flow::kRetry;
    }
    Advance(&barrier);
  }
  warp.at_cluster_barrier &= ~active;
  warp.Acquire(barrier.released, active);
  warp.Converge(active);
  return Flow::kNext;
}

// ---- mapa, getctarank

// op.imm: 1 for generic addresses.
template <typename T>
Flow MapAddress(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const uint32_t* ranks = warp.In<uint32_t>(op.src[1]);
  const T* addresses = warp.In<T>(op.src[0]);
  T* to = warp.Out<T>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    if (ranks[lane] >= static_cast<uint32_t>(warp.cta().cluster().size())) {
      warp.ReportAt(
          op, lane, FindingKind::kBadOperand,
          StrCat("CTA rank ", ranks[lane], " of a cluster of ", warp.cta().cluster().size()));
    }
    const uint64_t at =
        (static_cast<uint64_t>(addresses[lane]) + static_cast<uint64_t>(op.offset)) &
        kSharedByteMask;
    to[lane] = static_cast<T>((op.imm != 0 ? kSharedWindow : 0) |
                              uint64_t{ranks[lane] + 1} << kSharedRankShift | at);
  });
  return Flow::kNext;
}

template <typename T>
Flow GetCtaRank(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const T* addresses = warp.In<T>(op.src[0]);
  uint32_t* to = warp.Out<uint32_t>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    const uint32_t rank = static_cast<uint32_t>(addresses[lane]) >> kSharedRankShift;
    to[lane] = rank == 0 ? warp.cta().rank() : rank - 1;
  });
  return Flow::kNext;
}

absl::Status DecodeMap(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kMove;
  if (operands.size() != 3) return decoder.Unknown(instruction);
  op->imm = instruction.Has("shared::cluster") ? 0 : 1;
  decoder.SetDst(op, {decoder.Write(operands[0])});
  decoder.SetSrc(op, {decoder.Read(operands[1], type), decoder.Read(operands[2], Type::kB32)});
  if (operands[1].kind == ptx::Operand::Kind::kRegister) {
    op->offset = static_cast<int64_t>(operands[1].bits);
  }
  op->run = ptx::SizeOf(type) == 8 ? &MapAddress<uint64_t> : &MapAddress<uint32_t>;
  return absl::OkStatus();
}

absl::Status DecodeGetCtaRank(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = OpClass::kMove;
  SetOperands(decoder, instruction, type, op);
  op->run = ptx::SizeOf(type) == 8 ? &GetCtaRank<uint64_t> : &GetCtaRank<uint32_t>;
  return absl::OkStatus();
}

// ---- the end of a CTA

// Whether one of the CTA's warps knows of it.
bool IsSeen(Cta& cta, const Stamp& what) {
  return std::any_of(cta.warps().begin(), cta.warps().end(), [&](const auto& warp) {
    return warp->knowledge.generic.Of(what.agent).Covers(what.lane, what.time);
  });
}

// Others must be done with its shared memory by then, and it must know that.
void CheckRemoteAccesses(Warp& warp, const Op& op) {
  Cta& cta = warp.cta();
  for (const Stamp& access : cta.remote_accesses) {
    if (access.time == 0) continue;
    if (IsSeen(cta, access)) continue;
    warp.ReportAt(op, 0, FindingKind::kRaceShared,
                  "the CTA ends, not ordered after another CTA's access to its shared memory");
    return;
  }
}

void CheckMbarriers(Warp& warp, const Op& op) {
  Cta& cta = warp.cta();
  for (const auto& [at, mbarrier] : cta.mbarriers) {
    // That a copy has landed in this run is luck, unless somebody has waited for it.
    const bool waited =
        mbarrier.last_copy == 0 || IsSeen(cta, {mbarrier.agent, 0, mbarrier.last_copy});
    if (!waited || !mbarrier.landed.empty() || cta.bulk_writes_in_flight > 0) {
      warp.ReportAt(op, 0, FindingKind::kInFlight,
                    StrCat("the CTA ends without having waited for the copies that complete on the "
                           "mbarrier at shared byte ",
                           at));
      return;
    }
    if (mbarrier.bytes == 0) continue;
    warp.ReportAt(
        op, 0, FindingKind::kBarrierMisuse,
        StrCat("the CTA ends and the mbarrier at shared byte ", at, " counts ", mbarrier.bytes,
               " bytes that were announced and never came, or the reverse"));
  }
}

}  // namespace

Cluster::Cluster(Grid* grid, Worker* worker, std::array<int, 3> first_cta, uint32_t first_agent)
    : worker_(worker), first_agent_(first_agent) {
  const auto& size = grid->config().cluster;
  for (int z = 0; z < size[2]; ++z) {
    for (int y = 0; y < size[1]; ++y) {
      for (int x = 0; x < size[0]; ++x) {
        ctas_.push_back(std::make_unique<Cta>(
            grid, this, static_cast<uint32_t>(ctas_.size()),
            std::array<int, 3>{first_cta[0] + x, first_cta[1] + y, first_cta[2] + z}));
      }
    }
  }
}

uint32_t Cluster::NewAgent() {
  TRIREME_CHECK(num_agents_ < kMaxAgents);
  return num_agents_++;
}

bool Cluster::finished() const {
  return std::all_of(ctas_.begin(), ctas_.end(), [](const auto& cta) { return cta->finished(); });
}

int Cluster::missing_threads() const {
  int threads = 0;
  for (const auto& cta : ctas_) {
    for (const auto& warp : cta->warps()) {
      const LaneMask here = warp->cluster_phase == barrier.phase ? warp->at_cluster_barrier : 0;
      threads += std::popcount(warp->live() & ~here);
    }
  }
  return threads;
}

SharedPlace ResolveShared(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size) {
  const auto beyond = [&](std::string what) {
    warp.ReportAt(op, lane, FindingKind::kOutOfBounds, std::move(what));
    warp.grid().Abort();
    return SharedPlace{};
  };
  const uint64_t window = address & kWindowMask;
  address &= ~kWindowMask;
  if ((window != 0 && window != kSharedWindow) || address >> 32 != 0) {
    return beyond("the address is not in shared memory");
  }
  Cta* cta = &warp.cta();
  const uint32_t rank = static_cast<uint32_t>(address) >> kSharedRankShift;
  const uint32_t at = static_cast<uint32_t>(address) & kSharedByteMask;
  if (rank != 0 && rank - 1 != cta->rank()) {
    if (rank > static_cast<uint32_t>(cta->cluster().size())) {
      return beyond(StrCat("shared memory of CTA rank ", rank - 1, " of a cluster of ",
                           cta->cluster().size()));
    }
    cta = &cta->cluster().cta(rank - 1);
    if (cta->finished()) {
      warp.ReportAt(op, lane, FindingKind::kRaceShared,
                    StrCat("shared memory of CTA rank ", rank - 1, ", which has ended"));
    }
    const Accessor who = warp.AsAccessor(lane);
    if (cta->remote_accesses.size() <= who.agent) cta->remote_accesses.resize(who.agent + 1);
    cta->remote_accesses[who.agent] = {who.agent, who.lane, who.time};
  }
  if (at > cta->shared_bytes() || size > cta->shared_bytes() - at) {
    return beyond(
        StrCat("shared bytes ", at, " to ", uint64_t{at} + size, " of ", cta->shared_bytes()));
  }
  return {cta, at};
}

void WarpEnds(Warp& warp, const Op& op) {
  const auto in_flight = [&](std::string what) {
    warp.ReportAt(op, 0, FindingKind::kInFlight, std::move(what));
  };
  if (WgmmaInFlight(warp)) in_flight("the warp ends while its wgmma operations are in flight");
  std::string what;
  if (!TensorWorkIsWaitedFor(warp, &what)) in_flight(what);
  for (const BulkGroups& groups : warp.bulk_groups) {
    for (const auto& store : groups.stores) {
      if (store->read_waited) continue;
      return in_flight("the warp ends without wait_group for a copy out of shared memory");
    }
  }
  if (!warp.cta().finished() || warp.grid().aborted()) return;
  CheckRemoteAccesses(warp, op);
  CheckMbarriers(warp, op);
  if (!TensorMemoryIsGivenBack(warp.cta(), &what)) in_flight(what);
}

absl::Status DecodeClusterBarrier(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kBarrier;
  op->imm = instruction.Has("relaxed") ? 1 : 0;
  if (instruction.Has("arrive")) {
    op->run = &ClusterArrive;
  } else if (instruction.Has("wait")) {
    op->run = &ClusterWait;
  } else {
    return decoder.Unknown(instruction);
  }
  return absl::OkStatus();
}

void AddClusterFamily(Families* families) {
  (*families)["mapa"] = &DecodeMap;
  (*families)["getctarank"] = &DecodeGetCtaRank;
}

}  // namespace trireme::gpusim
