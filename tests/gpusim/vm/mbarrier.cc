#include "tests/gpusim/vm/mbarrier.h"

#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"

namespace trireme::gpusim {

void ReportMisuse(Warp& warp, const Op& op, int lane, std::string what) {
  warp.ReportAt(op, lane, FindingKind::kBarrierMisuse, std::move(what));
}

void CompleteIfDone(Mbarrier* mbarrier) {
  if (mbarrier->pending != 0 || mbarrier->bytes != 0) return;
  ++mbarrier->phase;
  mbarrier->pending = mbarrier->expected;
  if (!mbarrier->landed.empty()) mbarrier->last_copy = mbarrier->phase;
  for (const Landed& landed : std::exchange(mbarrier->landed, {})) {
    Accessor as;
    as.agent = mbarrier->agent;
    as.time = mbarrier->phase;
    as.async_proxy = landed.async_proxy;
    if (landed.is_read) {
      landed.cta->shadow.EndRead(landed.at, landed.size, as);
    } else {
      landed.cta->shadow.EndWrite(landed.at, landed.size, as);
    }
  }
  mbarrier->gathered.generic.Mutable(mbarrier->agent).Join({mbarrier->phase, 0, 0});
  mbarrier->released.Join(mbarrier->gathered);
  mbarrier->gathered = {};
}

Mbarrier* FindMbarrier(Warp& warp, const Op& op, int lane, const SharedPlace& place,
                       bool through_async_proxy) {
  if (place.cta == nullptr) return nullptr;
  const auto it = place.cta->mbarriers.find(place.at);
  if (it == place.cta->mbarriers.end()) {
    ReportMisuse(warp, op, lane, StrCat("there is no mbarrier at shared byte ", place.at));
    warp.grid().Abort();
    return nullptr;
  }
  Mbarrier& mbarrier = it->second;
  const Stamp& init = mbarrier.init;
  if (!warp.AsAccessor(lane).HasSeen(init.agent, init.lane, init.time)) {
    warp.ReportAt(op, lane, FindingKind::kRaceShared,
                  StrCat("the mbarrier at shared byte ", place.at,
                         " is used, not ordered after its initialisation"));
  }
  if (through_async_proxy && !mbarrier.init_fenced &&
      !warp.knowledge.async_proxy.Of(init.agent).Covers(init.lane, init.time)) {
    warp.ReportAt(op, lane, FindingKind::kMissingProxyFence,
                  StrCat("the mbarrier at shared byte ", place.at,
                         " was initialised without fence.mbarrier_init or fence.proxy.async"));
    mbarrier.init_fenced = true;  // said once
  }
  return &mbarrier;
}

void Arrive(Warp& warp, const Op& op, int lane, Mbarrier* mbarrier, int64_t count) {
  if (count < 1 || count > mbarrier->pending) {
    ReportMisuse(warp, op, lane,
                 StrCat(count, " arrivals where ", mbarrier->pending, " of ", mbarrier->expected,
                        " are missing in phase ", mbarrier->phase));
    return;
  }
  mbarrier->pending -= count;
  CompleteIfDone(mbarrier);
}

void AddBytes(Warp& warp, const Op& op, int lane, Mbarrier* mbarrier, int64_t bytes) {
  mbarrier->bytes += bytes;
  if (mbarrier->bytes > Mbarrier::kMaxCount || mbarrier->bytes < -Mbarrier::kMaxCount) {
    ReportMisuse(warp, op, lane,
                 StrCat("the count of bytes is ", mbarrier->bytes, ", beyond 2^20 - 1"));
  }
  if (bytes < 0) CompleteIfDone(mbarrier);
}

}  // namespace trireme::gpusim
