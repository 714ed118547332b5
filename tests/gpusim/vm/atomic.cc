// atom and red (PTX ISA, "Parallel Synchronization and Communication Instructions").
#include <algorithm>
#include <cstring>

#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// One lane after the other: dst = old; memory = combine(old, b, c).
template <typename T, typename Operation>
Flow AtomicOperation(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  const Ordering ordering = Ordering::Unpack(op.imm);
  WarpAccess access(warp, op, sizeof(T), ordering.space);
  if (op.num_dst > 0 && ordering.space != MemorySpace::kShared) warp.worker().NotePoll();
  ForEachLane(active, [&](int lane) {
    const uint64_t address = addresses[static_cast<size_t>(lane)];
    if (ordering.space != MemorySpace::kShared && (address & kWindowMask) == 0) {
      access.Hold(address);
      if (op.num_dst > 0) TakeOver(warp, address, ordering.acquire);
      HandOver(warp, address, LaneMask{1} << lane, ordering.release);
    }
    std::byte* at = access.Touch<AccessMode::kAtomic>(lane, address);
    if (at == nullptr) return;
    T old;
    std::memcpy(&old, at, sizeof(T));
    const T b = warp.In<T>(op.src[1])[lane];
    const T c = op.num_src > 2 ? warp.In<T>(op.src[2])[lane] : T{};
    const T value = Operation::template Do<T>(old, b, c);
    std::memcpy(at, &value, sizeof(T));
    if (op.num_dst > 0) warp.Out<T>(op.dst[0], LaneMask{1} << lane)[lane] = old;
  });
  return Flow::kNext;
}

struct Add {
  template <typename T>
  static T Do(T a, T b, T) {
    return static_cast<T>(a + b);
  }
};
struct AddF16x2 {
  template <typename T>
  static T Do(T a, T b, T) {
    const auto half = [](T x, T y) {
      return uint32_t{ToF16(FromF16(static_cast<uint16_t>(x)) + FromF16(static_cast<uint16_t>(y)))};
    };
    return static_cast<T>(half(a >> 16, b >> 16) << 16 | half(a, b));
  }
};
struct AddBf16x2 {
  template <typename T>
  static T Do(T a, T b, T) {
    const auto half = [](T x, T y) {
      return uint32_t{
          ToBf16(FromBf16(static_cast<uint16_t>(x)) + FromBf16(static_cast<uint16_t>(y)))};
    };
    return static_cast<T>(half(a >> 16, b >> 16) << 16 | half(a, b));
  }
};
struct Min {
  template <typename T>
  static T Do(T a, T b, T) {
    return std::min(a, b);
  }
};
struct Max {
  template <typename T>
  static T Do(T a, T b, T) {
    return std::max(a, b);
  }
};
struct And {
  template <typename T>
  static T Do(T a, T b, T) {
    return a & b;
  }
};
struct Or {
  template <typename T>
  static T Do(T a, T b, T) {
    return a | b;
  }
};
struct Xor {
  template <typename T>
  static T Do(T a, T b, T) {
    return a ^ b;
  }
};
struct Exchange {
  template <typename T>
  static T Do(T, T b, T) {
    return b;
  }
};
struct CompareAndSwap {
  template <typename T>
  static T Do(T a, T b, T c) {
    return a == b ? c : a;
  }
};
struct Increment {
  template <typename T>
  static T Do(T a, T b, T) {
    return a >= b ? T{0} : static_cast<T>(a + 1);
  }
};
struct Decrement {
  template <typename T>
  static T Do(T a, T b, T) {
    return a == 0 || a > b ? b : static_cast<T>(a - 1);
  }
};

template <typename Operation>
Execute ForIntegers(Type type) {
  return ForInteger(type, []<typename T>() -> Execute { return &AtomicOperation<T, Operation>; });
}

Execute Choose(const Instruction& instruction, Type type) {
  if (instruction.Has("add")) {
    if (type == Type::kF32) return &AtomicOperation<float, Add>;
    if (type == Type::kF64) return &AtomicOperation<double, Add>;
    if (type == Type::kF16x2) return &AtomicOperation<uint32_t, AddF16x2>;
    if (type == Type::kBf16x2) return &AtomicOperation<uint32_t, AddBf16x2>;
    return ForIntegers<Add>(type);
  }
  if (instruction.Has("min")) return ForIntegers<Min>(type);
  if (instruction.Has("max")) return ForIntegers<Max>(type);
  if (instruction.Has("and")) return ForIntegers<And>(type);
  if (instruction.Has("or")) return ForIntegers<Or>(type);
  if (instruction.Has("xor")) return ForIntegers<Xor>(type);
  if (instruction.Has("exch")) return ForIntegers<Exchange>(type);
  if (instruction.Has("cas")) return ForIntegers<CompareAndSwap>(type);
  if (instruction.Has("inc")) return ForIntegers<Increment>(type);
  if (instruction.Has("dec")) return ForIntegers<Decrement>(type);
  return nullptr;
}

template <bool returns>
absl::Status DecodeAtomic(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kAtomic;
  op->imm = Ordering::Of(instruction).Pack();
  op->run = Choose(instruction, type);
  if (op->run == nullptr || instruction.Has("v2") || instruction.Has("v4")) {
    return decoder.Unknown(instruction);
  }
  const size_t address = returns ? 1 : 0;
  if constexpr (returns) decoder.SetDst(op, {decoder.Write(operands[0])});
  std::vector<Slot> sources = {decoder.Address(operands[address], op)};
  for (size_t i = address + 1; i < operands.size(); ++i) {
    sources.push_back(decoder.Read(operands[i], type));
  }
  decoder.SetSrc(op, sources);
  return absl::OkStatus();
}

}  // namespace

void AddAtomicFamily(Families* families) {
  (*families)["atom"] = &DecodeAtomic<true>;
  (*families)["red"] = &DecodeAtomic<false>;
}

}  // namespace trireme::gpusim
