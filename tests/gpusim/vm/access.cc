#include "tests/gpusim/vm/access.h"

#include <algorithm>
#include <bit>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/cluster.h"

namespace trireme::gpusim {
namespace {

std::string Hex(uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  do out.insert(out.begin(), kDigits[value & 15]);
  while ((value >>= 4) != 0);
  return "0x" + out;
}

std::byte* Beyond(Warp& warp, const Op& op, int lane, std::string what) {
  warp.ReportAt(op, lane, FindingKind::kOutOfBounds, std::move(what));
  warp.grid().Abort();
  return nullptr;
}

std::byte* TouchShared(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size,
                       AccessMode mode) {
  SharedPlace place{&warp.cta(), static_cast<uint32_t>(address)};
  if (address + size > place.cta->shared_bytes()) [[unlikely]] {  // another CTA's, or nobody's
    place = ResolveShared(warp, op, lane, address, size);
    if (place.cta == nullptr) return nullptr;
  }
  Cta& cta = *place.cta;
  const uint32_t at = place.at;
  Fault fault;
  const Accessor who = warp.AsAccessor(lane);
  const bool reads = mode == AccessMode::kRead || mode == AccessMode::kStrongRead;
  const bool wrong = reads                         ? cta.shadow.Read(at, size, who, &fault)
                     : mode == AccessMode::kAtomic ? cta.shadow.Atomic(at, size, who, &fault)
                                                   : cta.shadow.Write(at, size, who, &fault);
  if (wrong) [[unlikely]]
    warp.ReportAt(op, lane, fault.kind, fault.what);
  return cta.shared(at);
}

std::byte* TouchGlobal(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size,
                       AccessMode mode) {
  DeviceMemory& memory = warp.grid().memory();
  std::byte* const bytes = memory.Find(address, size);
  if (bytes == nullptr) {
    return Beyond(
        warp, op, lane,
        StrCat(mode == AccessMode::kRead || mode == AccessMode::kStrongRead ? "reads " : "writes ",
               size, " bytes at ", Hex(address), ": ", memory.Describe(address)));
  }
  const bool reads = mode == AccessMode::kRead || mode == AccessMode::kStrongRead;
  const bool writes = mode == AccessMode::kWrite || mode == AccessMode::kStrongWrite;
  if (!writes && !memory.Defined(address, size)) [[unlikely]] {
    warp.ReportAt(op, lane, FindingKind::kUninitializedGlobal,
                  StrCat(size, " bytes at ", Hex(address), " are read and not all were written"));
  }
  if (!reads) memory.SetDefined(address, size);
  const GlobalAccessor who =
      AsGlobalAccessor(warp, lane, mode != AccessMode::kRead && mode != AccessMode::kWrite);
  GlobalCell* const cells = memory.Cells(address);
  Fault fault;
  if (reads ? CheckGlobalRead(cells, address, size, who, &fault)
            : CheckGlobalWrite(cells, address, size, who, &fault)) [[unlikely]] {
    warp.ReportAt(op, lane, fault.kind, fault.what);
  }
  return bytes;
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

std::byte* Touch(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size,
                 MemorySpace space, AccessMode mode) {
  if ((address & (size - 1)) != 0) [[unlikely]] {
    warp.ReportAt(op, lane, FindingKind::kMisaligned,
                  StrCat("address ", Hex(address), " is no multiple of ", size));
    warp.grid().Abort();
    return nullptr;
  }
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
  switch (space) {
    case MemorySpace::kShared:
      return TouchShared(warp, op, lane, address, size, mode);
    case MemorySpace::kLocal: {
      const uint32_t bytes = warp.grid().program().local_bytes;
      if (address > bytes || size > bytes - address) {
        return Beyond(warp, op, lane, StrCat("local byte ", address, " of ", bytes));
      }
      return warp.cta().local(warp.index() * kWarpSize + lane, address);
    }
    case MemorySpace::kParam: {
      const auto& params = warp.grid().params();
      const bool reads = mode == AccessMode::kRead || mode == AccessMode::kStrongRead;
      if (!reads || address > params.size() || size > params.size() - address) {
        return Beyond(warp, op, lane, StrCat("parameter byte ", address, " of ", params.size()));
      }
      // Parameters are constant: nobody writes through this.
      return reinterpret_cast<std::byte*>(const_cast<char*>(params.data())) + address;
    }
    default:
      return TouchGlobal(warp, op, lane, address, size, mode);
  }
}

int SharedWaves(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes) {
  const int lanes_at_once = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  const uint32_t bank_span = (1u << (bytes + 3) / 4) - 1;
  int waves = 0;
  for (int first = 0; first < kWarpSize; first += lanes_at_once) {
    // Mostly every lane has banks of its own.
    uint32_t used = 0, twice = 0;
    for (int lane = first; lane < first + lanes_at_once; ++lane) {
      if ((active >> lane & 1) == 0) continue;
      const auto address = static_cast<uint32_t>(addresses[static_cast<size_t>(lane)]);
      const uint32_t span = std::rotl(bank_span, static_cast<int>(address / 4 % 32));
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
  Counters& counters = warp.grid().counters();
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
  std::array<uint64_t, kWarpSize> sectors;
  size_t n = 0;
  std::array<uint64_t, kWarpSize> distinct;
  ForEachLane(active, [&](int lane) {
    const uint64_t address = addresses[static_cast<size_t>(lane)];
    distinct[n] = address;
    sectors[n++] = address / 32;
  });
  // Most accesses go up from lane to lane.
  if (!std::is_sorted(distinct.begin(), distinct.begin() + n)) {
    std::sort(sectors.begin(), sectors.begin() + n);
    std::sort(distinct.begin(), distinct.begin() + n);
  }
  const auto num = [n](auto& v) {
    return static_cast<uint64_t>(std::unique(v.begin(), v.begin() + n) - v.begin());
  };
  Counters& counters = warp.grid().counters();
  counters.global_sectors += num(sectors);
  counters.global_sectors_min += (num(distinct) * bytes + 31) / 32;
}

}  // namespace trireme::gpusim
