#include "tests/gpusim/vm/access.h"

#include <algorithm>
#include <bit>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

std::string Hex(uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  do out.insert(out.begin(), kDigits[value & 15]);
  while ((value >>= 4) != 0);
  return "0x" + out;
}

}  // namespace

MemorySpace SpaceOf(const ptx::Instruction& instruction) {
  for (const std::string_view part : instruction.parts) {
    if (part == "global") return MemorySpace::kGlobal;
    if (part == "const") return MemorySpace::kConst;
    if (part == "shared" || part == "shared::cta" || part == "shared::cluster") {
      return MemorySpace::kShared;
    }
    if (part == "local") return MemorySpace::kLocal;
    if (part == "param" || part == "param::entry") return MemorySpace::kParam;
  }
  return MemorySpace::kGeneric;
}

Ordering Ordering::Of(const ptx::Instruction& instruction) {
  const std::string_view root = instruction.parts[0];
  const bool both = instruction.Has("acq_rel");
  Ordering ordering;
  ordering.space = SpaceOf(instruction);
  ordering.acquire = instruction.Has("acquire") || both;
  ordering.release = instruction.Has("release") || both;
  ordering.strong = ordering.acquire || ordering.release || instruction.Has("relaxed") ||
                    instruction.Has("volatile") || root == "atom" || root == "red";
  return ordering;
}

uint64_t Ordering::Pack() const {
  return static_cast<uint64_t>(space) | uint64_t{strong} << 8 | uint64_t{acquire} << 9 |
         uint64_t{release} << 10;
}

Ordering Ordering::Unpack(uint64_t bits) {
  return {static_cast<MemorySpace>(bits & 0xff), (bits >> 8 & 1) != 0, (bits >> 9 & 1) != 0,
          (bits >> 10 & 1) != 0};
}

WarpAccess::WarpAccess(Warp& warp, const Op& op, uint32_t size, MemorySpace space)
    : warp_(warp),
      op_(&op),
      size_(size),
      space_(space),
      cta_(&warp.cta()),
      shared_bytes_(cta_->shared_bytes()),
      who_(AsGlobalAccessor(warp, 0, false)) {}

std::byte* WarpAccess::Beyond(int lane, std::string what) {
  warp_.ReportAt(*op_, lane, FindingKind::kOutOfBounds, std::move(what));
  warp_.grid().Abort();
  return nullptr;
}

template <AccessMode mode>
std::byte* WarpAccess::Shared(Cta& cta, uint32_t at) {
  Fault fault;
  const Accessor& who = who_.local;
  const bool wrong = Reads(mode)                   ? cta.shadow.Read(at, size_, who, &fault)
                     : mode == AccessMode::kAtomic ? cta.shadow.Atomic(at, size_, who, &fault)
                                                   : cta.shadow.Write(at, size_, who, &fault);
  if (wrong) [[unlikely]]
    warp_.ReportAt(*op_, who.lane, fault.kind, fault.what);
  return cta.shared(at);
}

// `address` is one of region_.
template <AccessMode mode>
std::byte* WarpAccess::Global(uint64_t address) {
  constexpr bool kWrites = mode == AccessMode::kWrite || mode == AccessMode::kStrongWrite;
  const int lane = who_.local.lane;
  lock_.Hold(address);
  if (!kWrites && !region_.IsDefined(address, size_)) [[unlikely]] {
    warp_.ReportAt(*op_, lane, FindingKind::kUninitializedGlobal,
                   StrCat(size_, " bytes at ", Hex(address), " are read and not all were written"));
  }
  if (!Reads(mode)) region_.SetDefined(address, size_);
  who_.strong = mode != AccessMode::kRead && mode != AccessMode::kWrite;
  if (mode == AccessMode::kAtomic || mode == AccessMode::kStrongWrite) {
    Release(region_.cells, address, who_);
  }
  Fault fault;
  if (Reads(mode) ? CheckGlobalRead(region_.cells, address, size_, who_, &fault)
                  : CheckGlobalWrite(region_.cells, address, size_, who_, &fault)) [[unlikely]] {
    warp_.ReportAt(*op_, lane, fault.kind, fault.what);
  }
  return region_.bytes + (address - region_.start);
}

template <AccessMode mode>
std::byte* WarpAccess::TouchElsewhere(int lane, uint64_t address) {
  if ((address & (size_ - 1)) != 0) [[unlikely]] {
    warp_.ReportAt(*op_, lane, FindingKind::kMisaligned,
                   StrCat("address ", Hex(address), " is no multiple of ", size_));
    warp_.grid().Abort();
    return nullptr;
  }
  MemorySpace space = space_;
  if (space == MemorySpace::kGeneric) {
    switch (address & kWindowMask) {
      case kSharedWindow:
        space = MemorySpace::kShared;
        break;
      case kLocalWindow:
        space = MemorySpace::kLocal;
        break;
      case kParamWindow:
        space = MemorySpace::kParam;
        break;
      default:
        space = MemorySpace::kGlobal;
    }
    if (space != MemorySpace::kGlobal) address &= ~kWindowMask;
  }
  Become(lane);
  switch (space) {
    case MemorySpace::kShared: {
      SharedPlace place{cta_, static_cast<uint32_t>(address)};
      if (address + size_ > shared_bytes_) {  // another CTA's, or nobody's
        place = ResolveShared(warp_, *op_, lane, address, size_);
        if (place.cta == nullptr) return nullptr;
      }
      return Shared<mode>(*place.cta, place.at);
    }
    case MemorySpace::kLocal: {
      const uint32_t bytes = warp_.grid().program().local_bytes;
      if (address > bytes || size_ > bytes - address) {
        return Beyond(lane, StrCat("local byte ", address, " of ", bytes));
      }
      return cta_->local(warp_.index() * kWarpSize + lane, address);
    }
    case MemorySpace::kParam: {
      const auto& params = warp_.grid().params();
      if (!Reads(mode) || address > params.size() || size_ > params.size() - address) {
        return Beyond(lane, StrCat("parameter byte ", address, " of ", params.size()));
      }
      // Parameters are constant: nobody writes through this.
      return reinterpret_cast<std::byte*>(const_cast<char*>(params.data())) + address;
    }
    default: {
      const DeviceMemory& memory = warp_.grid().memory();
      const Region region = memory.RegionOf(address, size_);
      if (region.end == 0) {
        return Beyond(lane, StrCat(Reads(mode) ? "reads " : "writes ", size_, " bytes at ",
                                   Hex(address), ": ", memory.Describe(address)));
      }
      region_ = region;
      return Global<mode>(address);
    }
  }
}

template std::byte* WarpAccess::TouchElsewhere<AccessMode::kRead>(int, uint64_t);
template std::byte* WarpAccess::TouchElsewhere<AccessMode::kWrite>(int, uint64_t);
template std::byte* WarpAccess::TouchElsewhere<AccessMode::kAtomic>(int, uint64_t);
template std::byte* WarpAccess::TouchElsewhere<AccessMode::kStrongRead>(int, uint64_t);
template std::byte* WarpAccess::TouchElsewhere<AccessMode::kStrongWrite>(int, uint64_t);

namespace {

// Whether all lanes' accesses lie side by side.
bool IsRow(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes) {
  uint64_t differs = addresses[0] & (bytes - 1);
  for (size_t lane = 0; lane < kWarpSize; ++lane) {
    differs |= addresses[lane] ^ (addresses[0] + lane * bytes);
  }
  return active == kAllLanes && differs == 0;
}

}  // namespace

int SharedWaves(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes) {
  const int lanes_at_once = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  if (bytes <= 16 && IsRow(addresses, active, bytes)) return kWarpSize / lanes_at_once;
  const uint32_t bank_span = (1u << (bytes + 3) / 4) - 1;
  int waves = 0;
  for (int first = 0; first < kWarpSize; first += lanes_at_once) {
    // Mostly every lane has banks of its own.
    uint32_t used = 0, twice = 0;
    for (int lane = first; lane < first + lanes_at_once; ++lane) {
      const auto address = static_cast<uint32_t>(addresses[static_cast<size_t>(lane)]);
      const uint32_t span =
          (active >> lane & 1) != 0 ? std::rotl(bank_span, static_cast<int>(address / 4 % 32)) : 0;
      twice |= used & span;
      used |= span;
    }
    if (twice == 0) {
      waves += used != 0 ? 1 : 0;
      continue;
    }
    std::array<std::array<uint32_t, kWarpSize>, 32> words;  // by bank, distinct
    std::array<uint8_t, 32> count{};
    uint8_t longest = 0;
    for (int lane = first; lane < first + lanes_at_once; ++lane) {
      if ((active >> lane & 1) == 0) continue;
      const uint32_t start = static_cast<uint32_t>(addresses[static_cast<size_t>(lane)]) / 4;
      const uint32_t end =
          (static_cast<uint32_t>(addresses[static_cast<size_t>(lane)]) + bytes + 3) / 4;
      for (uint32_t word = start; word < end; ++word) {
        auto& bank = words[word % 32];
        uint8_t& n = count[word % 32];
        if (std::find(bank.begin(), bank.begin() + n, word) != bank.begin() + n) continue;
        bank[n++] = word;
        longest = std::max(longest, n);
      }
    }
    waves += longest;
  }
  return waves;
}

void CountShared(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes) {
  Counters& counters = warp.worker().counters();
  counters.shared_waves += static_cast<uint64_t>(SharedWaves(addresses, active, bytes));
  const int lanes_at_once = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  for (int first = 0; first < kWarpSize; first += lanes_at_once) {
    const LaneMask group =
        lanes_at_once == 32 ? kAllLanes : ((LaneMask{1} << lanes_at_once) - 1) << first;
    if ((active & group) != 0) ++counters.shared_waves_min;
  }
}

void CountGlobal(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes) {
  Counters& counters = warp.worker().counters();
  if (bytes <= 32 && IsRow(addresses, active, bytes)) {
    counters.global_sectors += (addresses[kWarpSize - 1] / 32) - addresses[0] / 32 + 1;
    counters.global_sectors_min += bytes;
    return;
  }
  // Most accesses go up from lane to lane.
  uint64_t sectors = 0, distinct = 0, last = 0, last_sector = ~uint64_t{0};
  bool sorted = true;
  ForEachLane(active, [&](int lane) {
    const uint64_t address = addresses[static_cast<size_t>(lane)];
    sorted &= address >= last;
    distinct += address != last || sectors == 0 ? 1 : 0;
    sectors += address / 32 != last_sector ? 1 : 0;
    last = address;
    last_sector = address / 32;
  });
  if (!sorted) {
    std::array<uint64_t, kWarpSize> all;
    auto end = all.begin();
    ForEachLane(active, [&](int lane) { *end++ = addresses[static_cast<size_t>(lane)]; });
    const auto num = [&] {
      std::sort(all.begin(), end);
      return static_cast<uint64_t>(std::unique(all.begin(), end) - all.begin());
    };
    distinct = num();
    end = all.begin() + static_cast<ptrdiff_t>(distinct);
    for (auto it = all.begin(); it != end; ++it) *it /= 32;
    sectors = num();
  }
  counters.global_sectors += sectors;
  counters.global_sectors_min += (distinct * bytes + 31) / 32;
}

}  // namespace trireme::gpusim
