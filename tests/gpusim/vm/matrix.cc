// ldmatrix, stmatrix, movmatrix and mma.sync (PTX ISA, "Warp Level Matrix Multiply-Accumulate
// Instructions": the figures there give who holds what).
#include <array>
#include <cstring>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"
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
  for (int m = 0; m < op.num_dst; ++m) {
    uint16_t rows[8][8];
    std::array<uint64_t, kWarpSize> of_matrix{};
    for (int i = 0; i < 8; ++i) {
      const int lane = 8 * m + i;
      const std::byte* from = Touch(warp, op, lane, addresses[static_cast<size_t>(lane)], 16,
                                    MemorySpace::kShared, AccessMode::kRead);
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
      std::byte* to = Touch(warp, op, lane, addresses[static_cast<size_t>(lane)], 16,
                            MemorySpace::kShared, AccessMode::kWrite);
      if (to == nullptr) return Flow::kNext;
      std::memcpy(to, rows[i], 16);
      of_matrix[static_cast<size_t>(i)] = addresses[static_cast<size_t>(lane)];
    }
    CountShared(warp, of_matrix, 0xff, 16);
  }
  return Flow::kNext;
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

// ---- mma.sync m16n8k16 of 16-bit floats.
//
// With g = lane / 4 and t = lane % 4, a register holds two elements next to each other:
//   A: register i: row g + 8 (i % 2), columns 2 t + 8 (i / 2)
//   B: register i: rows 2 t + 8 i, column g
//   C, D in f32: register i: row g + 8 (i / 2), column 2 t + i % 2

template <float (*from_half)(uint16_t), int k, bool half_accumulator>
Flow MultiplyMatrix(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  if (active != kAllLanes) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kDivergence, "mma needs all 32 lanes");
  }
  ++warp.grid().counters().mma;
  constexpr int kA = k / 4, kB = k / 8;  // registers
  alignas(64) float a[16][k], b[k][8], c[16][8];
  for (int i = 0; i < kA; ++i) {
    const uint32_t* src = warp.In<uint32_t>(op.src[i]);
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int row = lane / 4 + 8 * (i % 2), column = lane % 4 * 2 + 8 * (i / 2);
      a[row][column] = from_half(static_cast<uint16_t>(src[lane]));
      a[row][column + 1] = from_half(static_cast<uint16_t>(src[lane] >> 16));
    }
  }
  for (int i = 0; i < kB; ++i) {
    const uint32_t* src = warp.In<uint32_t>(op.src[kA + i]);
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int row = lane % 4 * 2 + 8 * i, column = lane / 4;
      b[row][column] = from_half(static_cast<uint16_t>(src[lane]));
      b[row + 1][column] = from_half(static_cast<uint16_t>(src[lane] >> 16));
    }
  }
  constexpr int kC = half_accumulator ? 2 : 4;
  for (int i = 0; i < kC; ++i) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int column = lane % 4 * 2;
      if constexpr (half_accumulator) {
        const uint32_t both = warp.In<uint32_t>(op.src[kA + kB + i])[lane];
        c[lane / 4 + 8 * i][column] = FromF16(static_cast<uint16_t>(both));
        c[lane / 4 + 8 * i][column + 1] = FromF16(static_cast<uint16_t>(both >> 16));
      } else {
        c[lane / 4 + 8 * (i / 2)][column + i % 2] = warp.In<float>(op.src[kA + kB + i])[lane];
      }
    }
  }
  MultiplyAdd(warp.grid().matrix_rounding(), {.block = k}, &a[0][0], &b[0][0], &c[0][0], 16, 8, k);
  for (int i = 0; i < kC; ++i) {
    if constexpr (half_accumulator) {
      uint32_t* dst = warp.Out<uint32_t>(op.dst[i], kAllLanes);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        const float* at = &c[lane / 4 + 8 * i][lane % 4 * 2];
        dst[lane] = uint32_t{ToF16(at[1])} << 16 | ToF16(at[0]);
      }
    } else {
      float* dst = warp.Out<float>(op.dst[i], kAllLanes);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        dst[lane] = c[lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2];
      }
    }
  }
  return Flow::kNext;
}

absl::Status DecodeMma(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kMatrix;
  const bool k16 = instruction.Has("m16n8k16"), k8 = instruction.Has("m16n8k8");
  const Type d = Decoder::TypeOf(instruction), a = Decoder::TypeOf(instruction, 1);
  if (operands.size() != 4 || (!k16 && !k8)) return decoder.Unknown(instruction);
  if (a == Type::kBf16 && d == Type::kF32) {
    op->run = k16 ? &MultiplyMatrix<&FromBf16, 16, false> : &MultiplyMatrix<&FromBf16, 8, false>;
  } else if (a == Type::kF16 && d == Type::kF32) {
    op->run = k16 ? &MultiplyMatrix<&FromF16, 16, false> : &MultiplyMatrix<&FromF16, 8, false>;
  } else if (a == Type::kF16 && d == Type::kF16) {
    op->run = k16 ? &MultiplyMatrix<&FromF16, 16, true> : &MultiplyMatrix<&FromF16, 8, true>;
  } else {
    return decoder.Unknown(instruction);
  }
  decoder.SetDst(op, decoder.WriteAll(operands[0]));
  std::vector<Slot> sources;
  for (size_t i = 1; i < 4; ++i) {
    for (const Slot slot : decoder.ReadAll(operands[i], Type::kB32)) sources.push_back(slot);
  }
  decoder.SetSrc(op, sources);
  return absl::OkStatus();
}

}  // namespace

void AddMatrixFamily(Families* families) {
  (*families)["ldmatrix"] = &DecodeLoadMatrix;
  (*families)["stmatrix"] = &DecodeStoreMatrix;
  (*families)["mma"] = &DecodeMma;
}

}  // namespace trireme::gpusim
