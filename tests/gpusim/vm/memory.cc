// ld and st (PTX ISA, "Data Movement and Conversion Instructions").
#include <cstring>
#include <type_traits>

#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/row_words.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

constexpr int kMaxVector = 8;  // elements of a load or store

MemorySpace Space(const Op& op) { return Ordering::Unpack(op.imm).space; }

bool IsGlobal(MemorySpace space, uint64_t address) {
  return space == MemorySpace::kGlobal ||
         (space == MemorySpace::kGeneric && (address & kWindowMask) == 0);
}

void Count(Warp& warp, const Op& op, const std::array<uint64_t, kWarpSize>& addresses,
           LaneMask active, uint32_t bytes) {
  // Lanes of a generic access count as what the first of them turns out to be.
  const MemorySpace space = Space(op);
  const uint64_t window = addresses[static_cast<size_t>(std::countr_zero(active))] & kWindowMask;
  const bool generic = space == MemorySpace::kGeneric;
  if (space == MemorySpace::kShared || (generic && window == kSharedWindow)) {
    CountShared(warp, addresses, active, bytes);
  } else if (space == MemorySpace::kGlobal || (generic && window == 0)) {
    CountGlobal(warp, addresses, active, bytes);
  }
}

// M in memory, R in the register file: as wide or wider, then extended.
template <typename M, typename R>
Flow Load(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  const uint32_t bytes = static_cast<uint32_t>(sizeof(M) * op.count);
  Count(warp, op, addresses, active, bytes);
  const Ordering ordering = Ordering::Unpack(op.imm);
  WarpAccess access(warp, op, bytes, ordering.space);
  R* dst[kMaxVector];
  for (int i = 0; i < op.count; ++i) dst[i] = warp.Out<R>(op.dst[i], active);
  const auto load = [&](int lane, const std::byte* from) {
    for (int i = 0; i < op.count; ++i) {
      M value;
      std::memcpy(&value, from + static_cast<size_t>(i) * sizeof(M), sizeof(M));
      dst[i][lane] = static_cast<R>(value);
    }
  };
  if (!ordering.strong) {
    EachRowOrLane<AccessMode::kRead>(
        access, addresses, active, bytes,
        [&](RowLanes lanes, const std::byte* row) {
          if constexpr (sizeof(M) == 4 && std::is_same_v<R, uint32_t>) {
            if (op.count == 4) return LoadFours(lanes, row, dst);
          }
          for (int i = 0; i < op.count; ++i) {
            R* const to = dst[i];
            const std::byte* const from = row + static_cast<size_t>(i) * sizeof(M);
            lanes.ForEach([&](uint32_t lane, uint32_t at) {
              M value;
              std::memcpy(&value, from + at, sizeof(M));
              to[lane] = static_cast<R>(value);
            });
          }
        },
        [&](int lane) {
          const std::byte* const from =
              access.Touch<AccessMode::kRead>(lane, addresses[static_cast<size_t>(lane)]);
          if (from != nullptr) load(lane, from);
        });
    return Flow::kNext;
  }
  if (ordering.space != MemorySpace::kShared) warp.worker().NotePoll();
  ForEachLane(active, [&](int lane) {
    const uint64_t address = addresses[static_cast<size_t>(lane)];
    if (IsGlobal(ordering.space, address)) {
      access.Hold(address);
      TakeOver(warp, address, ordering.acquire);
    }
    const std::byte* const from = access.Touch<AccessMode::kStrongRead>(lane, address);
    if (from != nullptr) load(lane, from);
  });
  return Flow::kNext;
}

// The commonest: a parameter, the same for all lanes.
template <typename M, typename R>
Flow LoadParam(Warp& warp, const Op& op, LaneMask active) {
  const auto& params = warp.grid().params();
  const uint64_t at = warp.In<uint64_t>(op.src[0])[0] + static_cast<uint64_t>(op.offset);
  if (at + sizeof(M) * op.count > params.size()) return Load<M, R>(warp, op, active);
  for (int i = 0; i < op.count; ++i) {
    M value;
    std::memcpy(&value, params.data() + at + static_cast<size_t>(i) * sizeof(M), sizeof(M));
    R* dst = warp.Out<R>(op.dst[i], active);
    ForEachLane(active, [&](int lane) { dst[lane] = static_cast<R>(value); });
  }
  return Flow::kNext;
}

template <typename M, typename R>
Flow Store(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  const uint32_t bytes = static_cast<uint32_t>(sizeof(M) * op.count);
  Count(warp, op, addresses, active, bytes);
  const Ordering ordering = Ordering::Unpack(op.imm);
  WarpAccess access(warp, op, bytes, ordering.space);
  const R* src[kMaxVector];
  for (int i = 0; i < op.count; ++i) src[i] = warp.In<R>(op.src[1 + i]);
  const auto store = [&](int lane, std::byte* to) {
    for (int i = 0; i < op.count; ++i) {
      const M value = static_cast<M>(src[i][lane]);
      std::memcpy(to + static_cast<size_t>(i) * sizeof(M), &value, sizeof(M));
    }
  };
  if (!ordering.strong) {
    EachRowOrLane<AccessMode::kWrite>(
        access, addresses, active, bytes,
        [&](RowLanes lanes, std::byte* row) {
          if constexpr (sizeof(M) == 4 && std::is_same_v<R, uint32_t>) {
            if (op.count == 4) return StoreFours(lanes, row, src);
          }
          for (int i = 0; i < op.count; ++i) {
            const R* const from = src[i];
            std::byte* const to = row + static_cast<size_t>(i) * sizeof(M);
            lanes.ForEach([&](uint32_t lane, uint32_t at) {
              const M value = static_cast<M>(from[lane]);
              std::memcpy(to + at, &value, sizeof(M));
            });
          }
        },
        [&](int lane) {
          std::byte* const to =
              access.Touch<AccessMode::kWrite>(lane, addresses[static_cast<size_t>(lane)]);
          if (to != nullptr) store(lane, to);
        });
    return Flow::kNext;
  }
  ForEachLane(active, [&](int lane) {
    const uint64_t address = addresses[static_cast<size_t>(lane)];
    if (IsGlobal(ordering.space, address)) {
      access.Hold(address);
      HandOver(warp, address, LaneMask{1} << lane, ordering.release);
    }
    std::byte* const to = access.Touch<AccessMode::kStrongWrite>(lane, address);
    if (to != nullptr) store(lane, to);
  });
  return Flow::kNext;
}

struct LoadChoice {
  template <typename M, typename R>
  static Execute Get(bool param) {
    return param ? &LoadParam<M, R> : &Load<M, R>;
  }
};
struct StoreChoice {
  template <typename M, typename R>
  static Execute Get(bool) {
    return &Store<M, R>;
  }
};

template <typename Choice, typename M>
Execute ForRegister(int register_bytes, bool param) {
  switch (register_bytes) {
    case 2:
      if constexpr (sizeof(M) <= 2) return Choice::template Get<M, uint16_t>(param);
      return nullptr;
    case 4:
      if constexpr (sizeof(M) <= 4) return Choice::template Get<M, uint32_t>(param);
      return nullptr;
    case 8:
      return Choice::template Get<M, uint64_t>(param);
    default:
      return nullptr;
  }
}

template <typename Choice>
Execute ForMemory(Type type, int register_bytes, bool param) {
  switch (type) {
    case Type::kS8:
      return ForRegister<Choice, int8_t>(register_bytes, param);
    case Type::kS16:
      return ForRegister<Choice, int16_t>(register_bytes, param);
    case Type::kS32:
      return ForRegister<Choice, int32_t>(register_bytes, param);
    default:
      break;
  }
  switch (ptx::SizeOf(type)) {
    case 1:
      return ForRegister<Choice, uint8_t>(register_bytes, param);
    case 2:
      return ForRegister<Choice, uint16_t>(register_bytes, param);
    case 4:
      return ForRegister<Choice, uint32_t>(register_bytes, param);
    case 8:
      return ForRegister<Choice, uint64_t>(register_bytes, param);
    default:
      return nullptr;
  }
}

const ptx::Operand& FirstOf(const ptx::Operand& operand) {
  return operand.kind == ptx::Operand::Kind::kVector ? operand.items[0] : operand;
}

// .param is the kernel's parameters, or arguments of a call, which lie with the thread's own
// memory.
MemorySpace SpaceOf(const Instruction& instruction, const ptx::Operand& address) {
  const MemorySpace space = trireme::gpusim::SpaceOf(instruction);
  if (space != MemorySpace::kParam || address.items.empty()) return space;
  const ptx::Operand& base = address.items[0];
  const bool argument = base.kind == ptx::Operand::Kind::kSymbol && base.reg >= 0;
  return argument ? MemorySpace::kLocal : space;
}

void SetClass(const Instruction& instruction, MemorySpace space, Op* op) {
  Ordering ordering = Ordering::Of(instruction);
  ordering.space = space;
  op->imm = ordering.Pack();
  op->op_class = space == MemorySpace::kShared ? OpClass::kShared : OpClass::kMemory;
}

absl::Status DecodeLoad(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const auto& operands = instruction.operands;
  const MemorySpace space = SpaceOf(instruction, operands[1]);
  SetClass(instruction, space, op);
  decoder.SetDst(op, decoder.WriteAll(operands[0]));
  op->count = static_cast<uint8_t>(op->num_dst);
  if (op->count > kMaxVector) return decoder.Unknown(instruction);
  decoder.SetSrc(op, {decoder.Address(operands[1], op)});
  const bool fixed =
      space == MemorySpace::kParam && operands[1].items[0].kind == ptx::Operand::Kind::kSymbol;
  op->run = ForMemory<LoadChoice>(type, decoder.SizeOf(FirstOf(operands[0]), type), fixed);
  return op->run != nullptr ? absl::OkStatus() : decoder.Unknown(instruction);
}

absl::Status DecodeStore(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const auto& operands = instruction.operands;
  const MemorySpace space = SpaceOf(instruction, operands[0]);
  if (space == MemorySpace::kParam) return decoder.Unknown(instruction);
  SetClass(instruction, space, op);
  std::vector<Slot> sources = {decoder.Address(operands[0], op)};
  for (const Slot slot : decoder.ReadAll(operands[1], type)) sources.push_back(slot);
  decoder.SetSrc(op, sources);
  op->count = static_cast<uint8_t>(op->num_src - 1);
  if (op->count > kMaxVector) return decoder.Unknown(instruction);
  op->run = ForMemory<StoreChoice>(type, decoder.SizeOf(FirstOf(operands[1]), type), false);
  return op->run != nullptr ? absl::OkStatus() : decoder.Unknown(instruction);
}

Flow Nothing(Warp&, const Op&, LaneMask) { return Flow::kNext; }

}  // namespace

void AddMemoryFamily(Families* families) {
  (*families)["ld"] = &DecodeLoad;
  (*families)["ldu"] = &DecodeLoad;
  (*families)["st"] = &DecodeStore;
  const auto hint = [](Decoder&, const Instruction&, Op* op) {
    op->op_class = OpClass::kMemory;
    op->run = &Nothing;
    return absl::OkStatus();
  };
  (*families)["prefetch"] = hint;
  (*families)["prefetchu"] = hint;
  (*families)["applypriority"] = hint;
  (*families)["discard"] = hint;
}

}  // namespace trireme::gpusim
