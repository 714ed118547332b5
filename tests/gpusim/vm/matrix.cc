// ldmatrix, stmatrix and movmatrix (PTX ISA, "Warp Level Matrix Multiply-Accumulate
// Instructions": the figures there give who holds what).
#include <array>
#include <cstring>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/warp_sync.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// An 8x8 matrix of 16-bit elements is 8 rows of 16 bytes; row i of matrix m is at the address of
// lane 8 m + i. Lane l gets elements (l / 4, 2 (l % 4)) and the one after it.
template <bool transposed>
Flow LoadMatrix(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  WarpAccess access(warp, op, 16, MemorySpace::kShared);
  for (int m = 0; m < op.num_dst; ++m) {
    uint16_t rows[8][8];
    std::array<uint64_t, kWarpSize> of_matrix{};
    for (int i = 0; i < 8; ++i) {
      const int lane = 8 * m + i;
      const std::byte* from =
          access.Touch<AccessMode::kRead>(lane, addresses[static_cast<size_t>(lane)]);
      if (from == nullptr) return Flow::kNext;
      std::memcpy(rows[i], from, 16);
      of_matrix[static_cast<size_t>(i)] = addresses[static_cast<size_t>(lane)];
    }
    CountShared(warp, of_matrix, 0xff, 16);
    uint32_t* dst = warp.Out<uint32_t>(op.dst[m], kAllLanes);
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      const uint32_t low = transposed ? rows[column][row] : rows[row][column];
      const uint32_t high = transposed ? rows[column + 1][row] : rows[row][column + 1];
      dst[lane] = high << 16 | low;
    }
  }
  return Flow::kNext;
}

template <bool transposed>
Flow StoreMatrix(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  WarpAccess access(warp, op, 16, MemorySpace::kShared);
  for (int m = 0; m < op.num_src - 1; ++m) {
    uint16_t rows[8][8];
    const uint32_t* src = warp.In<uint32_t>(op.src[1 + m]);
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      (transposed ? rows[column][row] : rows[row][column]) = static_cast<uint16_t>(src[lane]);
      (transposed ? rows[column + 1][row] : rows[row][column + 1]) =
          static_cast<uint16_t>(src[lane] >> 16);
    }
    std::array<uint64_t, kWarpSize> of_matrix{};
    for (int i = 0; i < 8; ++i) {
      const int lane = 8 * m + i;
      std::byte* to = access.Touch<AccessMode::kWrite>(lane, addresses[static_cast<size_t>(lane)]);
      if (to == nullptr) return Flow::kNext;
      std::memcpy(to, rows[i], 16);
      of_matrix[static_cast<size_t>(i)] = addresses[static_cast<size_t>(lane)];
    }
    CountShared(warp, of_matrix, 0xff, 16);
  }
  return Flow::kNext;
}

// movmatrix.trans: the same matrix, transposed, of which each lane holds two elements.
Flow MoveMatrix(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  uint16_t rows[8][8];
  const uint32_t* src = warp.In<uint32_t>(op.src[0]);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    rows[lane / 4][lane % 4 * 2] = static_cast<uint16_t>(src[lane]);
    rows[lane / 4][lane % 4 * 2 + 1] = static_cast<uint16_t>(src[lane] >> 16);
  }
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], kAllLanes);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const int row = lane / 4, column = lane % 4 * 2;
    dst[lane] = uint32_t{rows[column + 1][row]} << 16 | rows[column][row];
  }
  return Flow::kNext;
}

absl::Status DecodeMoveMatrix(Decoder& decoder, const Instruction& instruction, Op* op) {
  if (!instruction.Has("m8n8") || !instruction.Has("trans")) return decoder.Unknown(instruction);
  op->op_class = OpClass::kMatrix;
  SetOperands(decoder, instruction, Type::kB32, op);
  op->run = &MoveMatrix;
  return absl::OkStatus();
}

absl::Status DecodeLoadMatrix(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  if (!instruction.Has("m8n8") || !instruction.Has("b16")) return decoder.Unknown(instruction);
  op->op_class = OpClass::kShared;
  decoder.SetDst(op, decoder.WriteAll(operands[0]));
  decoder.SetSrc(op, {decoder.Address(operands[1], op)});
  op->run = instruction.Has("trans") ? &LoadMatrix<true> : &LoadMatrix<false>;
  return absl::OkStatus();
}

absl::Status DecodeStoreMatrix(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  if (!instruction.Has("m8n8") || !instruction.Has("b16")) return decoder.Unknown(instruction);
  op->op_class = OpClass::kShared;
  std::vector<Slot> sources = {decoder.Address(operands[0], op)};
  for (const Slot slot : decoder.ReadAll(operands[1], Type::kB32)) sources.push_back(slot);
  decoder.SetSrc(op, sources);
  op->run = instruction.Has("trans") ? &StoreMatrix<true> : &StoreMatrix<false>;
  return absl::OkStatus();
}

}  // namespace

void AddMatrixFamily(Families* families) {
  (*families)["ldmatrix"] = &DecodeLoadMatrix;
  (*families)["stmatrix"] = &DecodeStoreMatrix;
  (*families)["movmatrix"] = &DecodeMoveMatrix;
  (*families)["mma"] = &DecodeMma;
}

}  // namespace trireme::gpusim
