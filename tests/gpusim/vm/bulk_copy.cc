#include "tests/gpusim/vm/bulk_copy.h"

#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {

bool RefuseCopy(Warp& warp, const Op& op, int lane, FindingKind kind, std::string what) {
  warp.ReportAt(op, lane, kind, std::move(what));
  warp.grid().Abort();
  return false;
}

bool TouchGlobal(Warp& warp, const Op& op, const GlobalAccessor& who, uint64_t address,
                 uint64_t size, BulkUse use,
                 const std::function<void(std::byte*, uint64_t, uint64_t)>& f) {
  const int lane = who.local.lane;
  const DeviceMemory& memory = warp.grid().memory();
  const Region region = memory.RegionOf(address, size);
  if (region.end == 0) {
    return RefuseCopy(warp, op, lane, FindingKind::kOutOfBounds,
                      StrCat("a bulk copy ", use == BulkUse::kRead ? "reads " : "writes ", size,
                             " bytes: ", memory.Describe(address)));
  }
  bool defined = true, ordered = true;
  Fault fault;
  EachPlace(address, size, [&](uint64_t start, uint64_t part) {
    if (use != BulkUse::kWrite) defined &= region.IsDefined(start, part);
    if (use != BulkUse::kRead) region.SetDefined(start, part);
    ordered &= !(use == BulkUse::kRead ? CheckGlobalRead(region.cells, start, part, who, &fault)
                                       : CheckGlobalWrite(region.cells, start, part, who, &fault));
    f(region.bytes + (start - region.start), start - address, part);
  });
  if (!defined) {
    warp.ReportAt(op, lane, FindingKind::kUninitializedGlobal,
                  StrCat(size, " bytes are read by a bulk copy and not all were written"));
  }
  if (!ordered) warp.ReportAt(op, lane, fault.kind, fault.what);
  return true;
}

void WriteGlobal(Warp& warp, const Op& op, const GlobalAccessor& who, uint64_t address,
                 const std::byte* bytes, uint64_t size, Reduction reduce) {
  TouchGlobal(warp, op, who, address, size, reduce != nullptr ? BulkUse::kReduce : BulkUse::kWrite,
              [&](std::byte* to, uint64_t at, uint64_t part) {
                if (reduce != nullptr) {
                  reduce(to, bytes + at, part);
                } else {
                  std::memcpy(to, bytes + at, part);
                }
              });
}

std::vector<Cta*> MulticastTargets(Warp& warp, const Op& op, int lane, uint32_t mask) {
  std::vector<Cta*> ctas;
  Cluster& cluster = warp.cta().cluster();
  if (mask == 0 || mask >> cluster.size() != 0) {
    RefuseCopy(warp, op, lane, FindingKind::kBadOperand,
               StrCat("a multicast to CTAs ", mask, " (bits) of a cluster of ", cluster.size()));
    return ctas;
  }
  for (uint32_t rank = 0; mask >> rank != 0; ++rank) {
    if ((mask >> rank & 1) != 0) ctas.push_back(&cluster.cta(rank));
  }
  return ctas;
}

bool StartBulkLoad(Warp& warp, const Op& op, int lane, const std::vector<Cta*>& to, uint32_t at,
                   uint32_t size, uint32_t mbarrier_at, ReadBytes read) {
  for (Cta* cta : to) {
    if (FindMbarrier(warp, op, lane, {cta, mbarrier_at}, true) == nullptr) return false;
    if (cta->finished()) {
      warp.ReportAt(op, lane, FindingKind::kRaceShared,
                    StrCat("copies into CTA rank ", cta->rank(), ", which has ended"));
    }
    Fault fault;
    if (cta->shadow.CheckFree(at, size, warp.AsAsyncAccessor(lane), &fault)) {
      warp.ReportAt(op, lane, fault.kind, fault.what);
    }
    cta->shadow.BeginWrite(at, size);
    ++cta->bulk_writes_in_flight;
    std::memset(cta->shared(at), 0xff, size);
  }
  warp.worker().counters().tma_bytes += size;
  const auto known = std::make_shared<const Knowledge>(warp.Release(LaneMask{1} << lane));
  // Each CTA gets its part at a time of its own.
  for (Cta* cta : to) {
    warp.cta().cluster().async.Start([&warp, &op, lane, cta, at, size, mbarrier_at, read, known] {
      const auto it = cta->mbarriers.find(mbarrier_at);
      if (it == cta->mbarriers.end()) {
        RefuseCopy(warp, op, lane, FindingKind::kBarrierMisuse,
                   "the mbarrier of a copy was invalidated before it was complete");
        return;
      }
      const uint32_t phase = it->second.phase + 1;  // that will be complete with these bytes
      std::vector<std::byte> bytes(size);
      if (!read(AsCopy(warp, *known, it->second.agent, lane, phase, false), bytes.data())) return;
      --cta->bulk_writes_in_flight;
      std::memcpy(cta->shared(at), bytes.data(), size);
      it->second.landed.push_back({cta, at, size, true, false});
      AddBytes(warp, op, lane, &it->second, -int64_t{size});
    });
  }
  return true;
}

bool StartBulkStore(Warp& warp, const Op& op, int lane, uint32_t at, uint32_t size, bool reduces,
                    WriteBytes write) {
  Cta& cta = warp.cta();
  if (warp.bulk_agent == 0) warp.bulk_agent = cta.cluster().NewAgent();
  Fault fault;
  if (cta.shadow.CheckRead(at, size, warp.AsAsyncAccessor(lane), &fault)) {
    warp.ReportAt(op, lane, fault.kind, fault.what);
  }
  cta.shadow.BeginRead(at, size);
  warp.worker().counters().tma_bytes += size;
  BulkGroups& groups = warp.bulk_groups[static_cast<size_t>(lane)];
  auto store = std::make_shared<BulkStore>();
  store->group = groups.committed;
  store->at = at;
  store->size = size;
  groups.stores.push_back(store);
  const auto known = std::make_shared<const Knowledge>(warp.Release(LaneMask{1} << lane));
  AsyncWork& async = cta.cluster().async;
  async.Start([&warp, lane, &cta, &async, store, reduces, known, write = std::move(write)] {
    const std::byte* from = cta.shared(store->at);
    std::vector<std::byte> bytes(from, from + store->size);
    store->read = true;
    async.Start([&warp, lane, store, reduces, known, write, bytes = std::move(bytes)] {
      write(AsCopy(warp, *known, warp.bulk_agent, lane, store->time(), reduces), bytes.data());
      store->written = true;
    });
  });
  return true;
}

}  // namespace trireme::gpusim
