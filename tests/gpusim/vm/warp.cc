#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/tcgen05.h"
#include "tests/gpusim/vm/wgmma.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {

Warp::Warp(Cta* cta, int index)
    : cta_(cta),
      grid_(cta->grid()),
      worker_(cta->cluster().worker()),
      index_(index),
      agent_(cta->cluster().NewAgent()),
      program_(cta->grid().program()),
      file_(program_.image),
      defined_(program_.defined) {
  const int threads = std::min(cta->num_threads() - index * kWarpSize, kWarpSize);
  live_ = threads == kWarpSize ? kAllLanes : (LaneMask{1} << threads) - 1;
  splits_.push_back({0, live_, false});
  for (const Program::SpecialSlot& special : program_.specials) {
    auto* place = reinterpret_cast<uint32_t*>(file_.data() + special.slot.offset);
    for (int lane = 0; lane < kWarpSize; ++lane) {
      place[lane] = SpecialValue(special.special, *cta, grid_, index, lane);
    }
  }
}

Warp::~Warp() = default;

void Warp::Addresses(const Op& op, int i, std::array<uint64_t, kWarpSize>* out) const {
  const uint64_t offset = static_cast<uint64_t>(op.offset);
  if (op.narrow_address) {
    const uint32_t* base = In<uint32_t>(op.src[i]);
    for (size_t lane = 0; lane < kWarpSize; ++lane) {
      (*out)[lane] = static_cast<uint32_t>(base[lane] + offset);
    }
  } else {
    const uint64_t* base = In<uint64_t>(op.src[i]);
    for (size_t lane = 0; lane < kWarpSize; ++lane) (*out)[lane] = base[lane] + offset;
  }
}

uint64_t Warp::Address(const Op& op, int i, int lane) const {
  const uint64_t offset = static_cast<uint64_t>(op.offset);
  if (op.narrow_address) return static_cast<uint32_t>(In<uint32_t>(op.src[i])[lane] + offset);
  return In<uint64_t>(op.src[i])[lane] + offset;
}

void Warp::BranchTo(LaneMask taken, uint32_t target) {
  const Split before = *current_;
  const LaneMask stay = before.lanes & ~taken;
  current_->pc = stay != 0 ? before.pc + 1 : target;
  if (stay != 0) {
    current_->lanes = stay;
    splits_.push_back({target, taken, false});
  }
  changed_ = true;
}

void Warp::Exit(LaneMask lanes) {
  live_ &= ~lanes;
  current_->lanes &= ~lanes;
  ++current_->pc;
  if (current_->lanes == 0) {
    splits_.erase(splits_.begin() + (current_ - splits_.data()));
  }
  // Others may have waited for these.
  for (Split& split : splits_) split.waiting = false;
  changed_ = true;
}

LaneMask Warp::LanesAt(uint32_t pc) const {
  LaneMask lanes = 0;
  for (const Split& split : splits_) {
    if (split.pc == pc) lanes |= split.lanes;
  }
  return lanes;
}

void Warp::Converge(LaneMask lanes) {
  ForEachLane(lanes, [&](int lane) { lanes_seen_[static_cast<size_t>(lane)] = time_; });
  ++time_;
}

Knowledge Warp::Release(LaneMask lanes) {
  Knowledge released;
  ReleaseInto(lanes, &released);
  return released;
}

void Warp::ReleaseInto(LaneMask lanes, Knowledge* into) {
  into->Join(knowledge);
  Seen mine;
  if (lanes == live_) {
    mine.all = time_;
  } else {
    ForEachLane(lanes, [&](int lane) {
      mine.all = std::max(mine.all, lanes_seen_[static_cast<size_t>(lane)]);
    });
    mine.some = lanes;
    mine.some_time = time_;
  }
  into->generic.Mutable(agent_).Join(mine);
  ++time_;
}

void Warp::FenceAsyncProxy(LaneMask lanes, bool shared, bool global) {
  const Knowledge seen = Release(lanes);
  if (shared) knowledge.async_proxy.Join(seen.generic);
  if (!global) return;
  knowledge.async_global.Join(seen.generic);
  knowledge.async_foreign.Join(seen.foreign);
}

void Warp::Acquire(const Knowledge& released, LaneMask lanes) {
  (void)lanes;
  knowledge.Join(released);
}

// Splits that stand at the same place are one again.
void Warp::Merge() {
  for (size_t i = 0; i < splits_.size(); ++i) {
    for (size_t j = splits_.size() - 1; j > i; --j) {
      if (splits_[j].pc != splits_[i].pc) continue;
      splits_[i].lanes |= splits_[j].lanes;
      splits_[i].waiting = false;
      splits_.erase(splits_.begin() + static_cast<ptrdiff_t>(j));
    }
  }
}

// The one that is furthest behind, so that they meet again soon; now and then another, so that a
// lane that spins until its neighbour has done something sees it done.
size_t Warp::PickSplit() {
  size_t best = splits_.size();
  const bool rotate = ++turns_ % 8 == 0;
  for (size_t k = 0; k < splits_.size(); ++k) {
    const size_t i = rotate ? (k + turns_ / 8) % splits_.size() : k;
    if (splits_[i].waiting) continue;
    if (best == splits_.size() || (!rotate && splits_[i].pc < splits_[best].pc)) best = i;
  }
  return best;
}

bool Warp::Run(int quantum) {
  bool ran = false;
  for (Split& split : splits_) split.waiting = false;
  Counters& counters = worker_.counters();
  while (quantum > 0 && !splits_.empty() && !grid_.aborted()) {
    const size_t picked = splits_.size() == 1 && !splits_[0].waiting ? 0 : PickSplit();
    if (picked == splits_.size()) return ran;
    current_ = &splits_[picked];
    changed_ = false;
    while (quantum-- > 0) {
      TRIREME_CHECK(current_->pc < program_.ops.size());
      const Op& op = program_.ops[current_->pc];
      LaneMask active = current_->lanes;
      if (op.guarded) {
        if ((active & ~defined_[op.guard.index]) != 0) [[unlikely]]
          ReportUndefined(op, active);
        active &= op.guard_negated ? ~Predicate(op.guard) : Predicate(op.guard);
      }
      Flow flow = Flow::kNext;
      if (active != 0) {
        flow = op.matrix ? worker_.TimeMatrix([&] { return op.run(*this, op, active); })
                         : op.run(*this, op, active);
      }
      if (flow == Flow::kRetry) {
        current_->waiting = true;
        ++quantum;  // or a warp that has just this one left might seem to have nothing to run
        break;
      }
      ran = true;
      ++counters.instructions[static_cast<size_t>(op.op_class)];
      if (changed_ || grid_.aborted()) break;
      ++current_->pc;
      if (splits_.size() > 1) break;
    }
    if (splits_.size() > 1) Merge();
  }
  return ran;
}

void Warp::ReportAt(const Op& op, int lane, FindingKind kind, std::string what) {
  Finding finding;
  finding.kind = kind;
  finding.kernel = program_.name;
  finding.instruction = op.text->opcode;
  finding.ptx_line = op.text->ptx_line;
  finding.line = op.text->source.line;
  if (op.text->source.file < program_.module->files.size()) {
    finding.file = program_.module->files[op.text->source.file];
  }
  std::copy(cta_->id().begin(), cta_->id().end(), finding.ctaid);
  finding.warp = index_;
  finding.lane = lane;
  finding.what = std::move(what);
  grid().NoteFinding(kind);
  grid().report().Add(std::move(finding));
}

void Warp::ReportUndefined(const Op& op, LaneMask active) {
  const auto check = [&](Slot slot, std::string_view what) {
    const LaneMask missing = active & ~defined_[slot.index];
    if (missing == 0) return;
    ReportAt(op, std::countr_zero(missing), FindingKind::kUninitializedRegister,
             StrCat(what, " holds nothing yet"));
    defined_[slot.index] |= active;  // said once
  };
  if (op.guarded) check(op.guard, "the predicate");
  for (int i = 0; i < op.num_src; ++i) check(op.src[i], StrCat("source ", i));
}

}  // namespace trireme::gpusim
