// cp.async.bulk.tensor and cp.reduce.async.bulk.tensor, tile mode (PTX ISA, "Tensors").
#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/bulk_copy.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/tensor_map.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

using Coordinates = std::array<int32_t, 5>;

// What an instruction names beside addresses: op.imm.
struct Form {
  uint32_t rank = 0;
  bool multicast = false;
  uint32_t reduction = 0;  // of kReductions
  uint64_t Packed() const { return rank | (multicast ? 8u : 0u) | reduction << 4; }
  static Form Of(uint64_t imm) {
    return {static_cast<uint32_t>(imm & 7), (imm & 8) != 0, static_cast<uint32_t>(imm >> 4)};
  }
};
constexpr std::string_view kReductions[] = {"",   "add", "min", "max", "and",
                                            "or", "xor", "inc", "dec"};

// The map that the address in src[i] points to. False: reported, the launch aborted.
bool ReadMap(Warp& warp, const Op& op, int i, int lane, TensorMap* map) {
  const uint64_t address = AddressAt(warp, op, i, lane);
  std::byte bytes[128];
  WarpAccess access(warp, op, 64, MemorySpace::kGeneric);
  for (uint64_t at = 0; at < sizeof(bytes); at += 64) {
    const std::byte* const from = access.Touch<AccessMode::kRead>(lane, address + at);
    if (from == nullptr) return false;
    std::memcpy(bytes + at, from, 64);
  }
  std::memcpy(map, bytes, sizeof(*map));
  const uint32_t rank = Form::Of(op.imm).rank;
  if (map->magic == TensorMap::kMagic && map->rank == rank) return true;
  warp.ReportAt(
      op, lane, FindingKind::kBadOperand,
      map->magic != TensorMap::kMagic
          ? std::string("there is no tensor map at the address")
          : StrCat("the tensor map has rank ", int{map->rank}, ", the instruction ", rank));
  warp.grid().Abort();
  return false;
}

Coordinates ReadCoordinates(const Warp& warp, const Op& op, int i, int lane) {
  Coordinates at{};
  for (uint32_t d = 0; d < Form::Of(op.imm).rank; ++d) {
    at[d] = warp.In<int32_t>(op.src[i + static_cast<int>(d)])[lane];
  }
  return at;
}

bool CheckPlace(Warp& warp, const Op& op, int lane, const TensorMap& map, uint32_t at) {
  // The pattern of a swizzle repeats; a box that does not start with it is allowed, but not within
  // a line.
  if (at % 128 == 0) return true;
  warp.ReportAt(op, lane, FindingKind::kMisaligned,
                StrCat("shared byte ", at, " of a tensor copy is no multiple of 128"));
  warp.grid().Abort();
  (void)map;
  return false;
}

// Calls f(offset in the dense box, address; 0: outside the tensor, number of elements) for the
// elements of each line of the box that lie side by side. The innermost dimension is taken element
// by element if it is stepped through.
template <typename F>
void EachRun(const TensorMap& map, const Coordinates& start, F&& f) {
  const uint32_t element = static_cast<uint32_t>(SizeOf(map.type));
  const uint32_t width = map.Extent(0);
  uint32_t lines = 1;
  for (int d = 1; d < map.rank; ++d) lines *= map.Extent(d);
  for (uint32_t line = 0; line < lines; ++line) {
    uint64_t address = map.address;
    bool inside = true;
    uint32_t rest = line;
    for (int d = 1; d < map.rank; ++d) {
      const size_t i = static_cast<size_t>(d);
      const int64_t at = int64_t{start[i]} + int64_t{rest % map.Extent(d)} * map.element_stride[i];
      rest /= map.Extent(d);
      inside &= at >= 0 && at < static_cast<int64_t>(map.size[i]);
      address += static_cast<uint64_t>(at) * map.stride[i - 1];
    }
    for (uint32_t x = 0; x < width;) {
      const int64_t at = int64_t{start[0]} + int64_t{x} * map.element_stride[0];
      uint32_t run = 1;
      const bool in = inside && at >= 0 && at < static_cast<int64_t>(map.size[0]);
      if (!inside || at >= static_cast<int64_t>(map.size[0])) {
        run = width - x;
      } else if (map.element_stride[0] == 1) {
        const int64_t end = at < 0 ? 0 : static_cast<int64_t>(map.size[0]);
        run = static_cast<uint32_t>(std::min<int64_t>(width - x, end - at));
      }
      f((line * width + x) * element, in ? address + static_cast<uint64_t>(at) * element : 0, run);
      x += run;
    }
  }
}

// Calls f(offset in the dense box, offset in shared memory, bytes) for the chunks of a box at
// shared address `at`.
template <typename F>
void EachChunk(const TensorMap& map, uint32_t at, F&& f) {
  const uint32_t bytes = map.box_bytes();
  for (uint32_t i = 0; i < bytes; i += 16) {
    f(i, Swizzled(map.swizzle, at + i) - at, std::min(16u, bytes - i));
  }
}

void Fill(const TensorMap& map, std::byte* to, uint32_t bytes) {
  std::memset(to, 0, bytes);
  if (!map.fill_nan) return;
  const uint32_t element = static_cast<uint32_t>(SizeOf(map.type));
  // The quiet NaN of the type, in its highest bytes.
  const uint16_t top = map.type == TensorType::kF16   ? 0x7fff
                       : map.type == TensorType::kF64 ? 0x7ff8
                                                      : 0x7fff;
  for (uint32_t at = 0; at < bytes; at += element) {
    std::memset(to + at, element == 2 ? 0 : 0xff, element);
    std::memcpy(to + at + element - 2, &top, 2);
  }
}

// dst, map, mbarrier, coordinates {, CTA mask}
Flow LoadTensor(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    TensorMap map;
    if (!ReadMap(warp, op, 2, lane, &map)) return;
    const Form form = Form::Of(op.imm);
    const uint32_t size = map.box_bytes();
    const SharedPlace to = ResolveShared(warp, op, lane, AddressAt(warp, op, 0, lane), size);
    const SharedPlace on = ResolveShared(warp, op, lane, AddressAt(warp, op, 4, lane), 8);
    if (to.cta == nullptr || on.cta == nullptr || !CheckPlace(warp, op, lane, map, to.at)) return;
    std::vector<Cta*> ctas = {to.cta};
    if (form.multicast) {
      const int mask = 6 + static_cast<int>(form.rank);
      ctas = MulticastTargets(warp, op, lane, warp.In<uint16_t>(op.src[mask])[lane]);
      if (ctas.empty()) return;
    } else if (to.cta != on.cta) {
      warp.ReportAt(op, lane, FindingKind::kBadOperand,
                    "the mbarrier lies in another CTA than the copy");
    }
    const Coordinates start = ReadCoordinates(warp, op, 6, lane);
    StartBulkLoad(warp, op, lane, ctas, to.at, size, on.at,
                  [&warp, &op, map, start, at = to.at](const auto& who, std::byte* bytes) {
                    const uint32_t element = static_cast<uint32_t>(SizeOf(map.type));
                    std::vector<std::byte> dense(map.box_bytes());
                    bool ok = true;
                    EachRun(map, start, [&](uint32_t offset, uint64_t address, uint32_t count) {
                      const uint32_t n = count * element;
                      if (address == 0) return Fill(map, dense.data() + offset, n);
                      ok &= TouchGlobal(warp, op, who, address, n, BulkUse::kRead,
                                        [&](const std::byte* from, uint64_t at, uint64_t part) {
                                          std::memcpy(dense.data() + offset + at, from, part);
                                        });
                    });
                    EachChunk(map, at, [&](uint32_t i, uint32_t swizzled, uint32_t n) {
                      std::memcpy(bytes + swizzled, dense.data() + i, n);
                    });
                    return ok;
                  });
  });
  return Flow::kNext;
}

// map, src, coordinates
Flow StoreTensor(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    TensorMap map;
    if (!ReadMap(warp, op, 0, lane, &map)) return;
    const std::string_view what = kReductions[Form::Of(op.imm).reduction];
    const Reduction reduce = what.empty() ? nullptr : ReductionOf(what, ElementType(map.type));
    if (!what.empty() && reduce == nullptr) {
      warp.ReportAt(op, lane, FindingKind::kBadOperand,
                    StrCat("no reduction '", what, "' of the tensor map's type"));
      return warp.grid().Abort();
    }
    const uint32_t size = map.box_bytes();
    const SharedPlace from = ResolveShared(warp, op, lane, AddressAt(warp, op, 2, lane), size);
    if (from.cta == nullptr || !CheckPlace(warp, op, lane, map, from.at)) return;
    const Coordinates start = ReadCoordinates(warp, op, 4, lane);
    StartBulkStore(warp, op, lane, from.at, size, reduce != nullptr,
                   [&warp, &op, map, start, reduce, at = from.at](const auto& who, auto* bytes) {
                     const uint32_t element = static_cast<uint32_t>(SizeOf(map.type));
                     std::vector<std::byte> dense(map.box_bytes());
                     EachChunk(map, at, [&](uint32_t i, uint32_t swizzled, uint32_t n) {
                       std::memcpy(dense.data() + i, bytes + swizzled, n);
                     });
                     EachRun(map, start, [&](uint32_t offset, uint64_t address, uint32_t count) {
                       if (address == 0) return;
                       const uint32_t n = count * element;
                       WriteGlobal(warp, op, who, address, dense.data() + offset, n, reduce);
                     });
                   });
  });
  return Flow::kNext;
}

Flow Nothing(Warp&, const Op&, LaneMask) { return Flow::kNext; }

}  // namespace

// [dst], [map, {coordinates}], [mbarrier] {, mask} {, policy}; or [map, {coordinates}], [src] {,
// policy}
absl::Status DecodeTensorCopy(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kAsync;
  Form form;
  for (const std::string_view part : instruction.parts) {
    if (part.size() == 2 && part[1] == 'd' && part[0] >= '1' && part[0] <= '5') {
      form.rank = static_cast<uint32_t>(part[0] - '0');
    }
    if (part.starts_with("im2col") || part.starts_with("tile::") || part.starts_with("cta_group")) {
      return decoder.Unknown(instruction);
    }
  }
  if (form.rank == 0) return decoder.Unknown(instruction);
  if (instruction.Has("prefetch")) {
    op->run = &Nothing;
    return absl::OkStatus();
  }
  const bool loads = instruction.Has("mbarrier::complete_tx::bytes");
  const size_t map_at = loads ? 1 : 0;
  form.multicast = instruction.Has("multicast::cluster");
  if (operands.size() < (loads ? 3u : 2u) + (form.multicast ? 1 : 0)) {
    return decoder.Unknown(instruction);
  }
  const auto& map = operands[map_at];
  if (map.items.size() != 2 || map.items[1].kind != ptx::Operand::Kind::kVector ||
      map.items[1].items.size() != form.rank) {
    return decoder.Unknown(instruction);
  }
  std::vector<Slot> sources;
  AddAddress(decoder, operands[0], &sources);
  AddAddress(decoder, operands[1], &sources);
  if (loads) AddAddress(decoder, operands[2], &sources);
  for (const Slot slot : decoder.ReadAll(map.items[1], Type::kB32)) sources.push_back(slot);
  if (form.multicast) sources.push_back(decoder.Read(operands[3], Type::kB16));
  if (instruction.parts[1] == "reduce") {
    const std::string_view name = ReductionName(instruction);
    for (uint32_t i = 1; i < std::size(kReductions); ++i) {
      if (kReductions[i] == name) form.reduction = i;
    }
    if (form.reduction == 0) return decoder.Unknown(instruction);
  }
  decoder.SetSrc(op, sources);
  op->imm = form.Packed();
  op->run = loads ? &LoadTensor : &StoreTensor;
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
