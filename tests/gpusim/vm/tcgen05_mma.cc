// Starting tcgen05.mma and .cp.
#include "tests/gpusim/vm/tcgen05_mma.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;
using Kind = TensorMmaForm::Kind;

void Refuse(Warp& warp, const Op& op, int lane, FindingKind kind, std::string what) {
  warp.ReportAt(op, lane, kind, std::move(what));
  warp.grid().Abort();
}

// The CTAs that an operation spans. Empty: reported.
std::vector<Cta*> CtasOf(Warp& warp, const Op& op, int lane, bool pair) {
  Cta& cta = warp.cta();
  if (!pair) return {&cta};
  Cluster& cluster = cta.cluster();
  const uint32_t first = cta.rank() & ~1u;
  if (first + 1 >= static_cast<uint32_t>(cluster.size())) {
    Refuse(warp, op, lane, FindingKind::kBadOperand, "cta_group::2 needs a cluster of pairs");
    return {};
  }
  return {&cluster.cta(first), &cluster.cta(first + 1)};
}

// Every access of an operation that `lane` starts: checked now, carried out at some time until its
// commit tells. False: the launch is aborted.
class Accesses {
 public:
  Accesses(Warp& warp, const Op& op, int lane)
      : warp_(warp), op_(op), lane_(lane), who_(AsTensorAccessor(warp, lane)) {}

  bool ReadShared(Cta& cta, const std::vector<uint32_t>& chunks) {
    for (const uint32_t at : chunks) {
      if (at + 16 > cta.shared_bytes()) {
        Refuse(
            warp_, op_, lane_, FindingKind::kOutOfBounds,
            StrCat("an operand's shared bytes ", at, " to ", at + 16, " of ", cta.shared_bytes()));
        return false;
      }
    }
    // The reader is what the lane has started, with what the lane has seen.
    Accessor as;
    as.agent = who_.as.agent;
    as.lane = lane_;
    as.time = who_.as.time;
    as.async_proxy = true;
    Fault fault;
    bool said = false;
    for (const uint32_t at : chunks) {
      if (cta.shadow.CheckRead(at, 16, warp_.AsAsyncAccessor(lane_), &fault) && !said) {
        warp_.ReportAt(op_, lane_, fault.kind, fault.what);
        said = true;
      }
      cta.shadow.BeginRead(at, 16);
      cta.shadow.EndRead(at, 16, as);
    }
    return true;
  }

  bool Tensor(Cta& cta, const TensorPlace& place, bool writes) {
    if (!cta.tensor_memory.Holds(place)) {
      Refuse(
          warp_, op_, lane_, FindingKind::kOutOfBounds,
          StrCat("lanes ", place.lane, " to ", place.lane + place.lanes, ", columns ", place.column,
                 " to ", place.column + place.columns, " of tensor memory are not allocated"));
      return false;
    }
    Fault fault;
    if (writes ? cta.tensor_memory.Write(place, who_, &fault)
               : cta.tensor_memory.Read(place, who_, &fault)) {
      warp_.ReportAt(op_, lane_, fault.kind, fault.what);
    }
    return true;
  }

 private:
  Warp& warp_;
  const Op& op_;
  const int lane_;
  const TensorAccessor who_;
};

// The lanes of rows 0 to m.
std::vector<TensorPlace> RowsPlaces(const TensorMma& mma, int column, int columns) {
  if (mma.m == 128) return {{mma.LaneOf(0), 128, column, columns}};
  std::vector<TensorPlace> places;
  for (int row = 0; row < mma.m; row += 16)
    places.push_back({mma.LaneOf(row), 16, column, columns});
  return places;
}

bool CheckAccesses(Warp& warp, const Op& op, int lane, const TensorMma& mma) {
  SharedOperand a, b;
  if (!OperandsOf(mma, &a, &b)) {
    Refuse(warp, op, lane, FindingKind::kBadOperand,
           "a matrix descriptor is none of tcgen05, or of a kind that is not known");
    return false;
  }
  Accesses accesses(warp, op, lane);
  const auto column = [](uint64_t address) { return static_cast<int>(address & 0xffff); };
  for (Cta* const cta : mma.ctas) {
    if (!mma.form.a_in_tensor_memory && !accesses.ReadShared(*cta, a.Chunks())) return false;
    if (!accesses.ReadShared(*cta, b.Chunks())) return false;
    if (mma.form.scales > 0 &&
        (!accesses.Tensor(*cta, {0, 128, column(mma.scales_a), (mma.m + 31) / 32}, false) ||
         !accesses.Tensor(*cta, {0, 128, column(mma.scales_b), (mma.n + 31) / 32}, false))) {
      return false;
    }
    if (mma.form.a_in_tensor_memory) {
      for (const TensorPlace& place : RowsPlaces(mma, column(mma.a), 8)) {
        if (!accesses.Tensor(*cta, place, false)) return false;
      }
    }
    for (const TensorPlace& place : RowsPlaces(mma, column(mma.d), mma.n)) {
      if (mma.accumulates && !accesses.Tensor(*cta, place, false)) return false;
      if (!accesses.Tensor(*cta, place, true)) return false;
    }
  }
  return true;
}

// src: d's address, A's descriptor or address, B's descriptor, instruction descriptor, {scales of
// A, of B,} {4 masks,} whether it accumulates. An address is two sources.
Flow StartMma(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    auto mma = std::make_shared<TensorMma>();
    mma->form = TensorMmaForm::Unpack(op.imm);
    int next = 0;
    const auto address = [&] {
      next += 2;
      return static_cast<uint32_t>(AddressAt(warp, op, next - 2, lane));
    };
    mma->d = address();
    mma->a = mma->form.a_in_tensor_memory ? address() : warp.In<uint64_t>(op.src[next++])[lane];
    mma->b = warp.In<uint64_t>(op.src[next++])[lane];
    const uint32_t descriptor = warp.In<uint32_t>(op.src[next++])[lane];
    if (mma->form.scales > 0) {
      mma->scales_a = address();
      mma->scales_b = address();
    }
    for (size_t i = 0; i < (mma->form.pair ? 8u : 4u) && mma->form.masked; ++i) {
      mma->masked[i] = warp.In<uint32_t>(op.src[next++])[lane];
    }
    mma->accumulates = (warp.Predicate(op.src[next]) >> lane & 1) != 0;
    mma->ctas = CtasOf(warp, op, lane, mma->form.pair);
    if (mma->ctas.empty()) return;
    const std::string wrong = ParseInstructionDescriptor(descriptor, mma.get());
    if (!wrong.empty()) {
      return Refuse(warp, op, lane, FindingKind::kBadOperand,
                    StrCat("the instruction descriptor: ", wrong));
    }
    ++TensorOf(warp).queues[static_cast<size_t>(lane)].issued;
    ++warp.worker().counters().tcgen05;
    if (!CheckAccesses(warp, op, lane, *mma)) return;
    StartTensorWork(warp, lane, [&warp, mma] { Compute(*mma, warp.grid().matrix_rounding()); });
  });
  return Flow::kNext;
}

// ---- cp: rows of 16 or 32 bytes to columns; 32 or 64 rows are repeated to fill the lanes.

struct CopyForm {
  uint8_t rows = 128, chunks = 1;
  bool pair = false;
  bool interleaved = false;  // warpx2::02_13
  uint64_t Pack() const {
    return rows | uint64_t{chunks} << 8 | (pair ? 1u << 16 : 0u) | (interleaved ? 1u << 17 : 0u);
  }
  static CopyForm Unpack(uint64_t bits) {
    return {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8), (bits >> 16 & 1) != 0,
            (bits >> 17 & 1) != 0};
  }
  // The row that lane `lane` gets.
  int RowOf(int lane) const {
    if (rows == 64) return lane % 32 + 32 * (interleaved ? lane / 32 % 2 : lane / 64);
    return lane % rows;
  }
};

// src: address, descriptor.
Flow StartCopy(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const CopyForm form = CopyForm::Unpack(op.imm);
  ForEachLane(active, [&](int lane) {
    MatrixDescriptor descriptor;
    if (!MatrixDescriptor::OfTcgen05(warp.In<uint64_t>(op.src[2])[lane], &descriptor)) {
      return Refuse(warp, op, lane, FindingKind::kBadOperand,
                    "the matrix descriptor is none of tcgen05, or of a kind that is not known");
    }
    const uint32_t to = static_cast<uint32_t>(AddressAt(warp, op, 0, lane));
    const std::vector<Cta*> ctas = CtasOf(warp, op, lane, form.pair);
    const TensorPlace place{static_cast<int>(to >> 16), TensorMemory::kLanes,
                            static_cast<int>(to & 0xffff), 4 * form.chunks};
    std::vector<uint32_t> chunks;
    for (uint32_t row = 0; row < form.rows; ++row) {
      for (uint32_t c = 0; c < form.chunks; ++c) chunks.push_back(descriptor.KMajor(row, c));
    }
    ++TensorOf(warp).queues[static_cast<size_t>(lane)].issued;
    Accesses accesses(warp, op, lane);
    for (Cta* const cta : ctas) {
      if (!accesses.ReadShared(*cta, chunks) || !accesses.Tensor(*cta, place, true)) return;
    }
    StartTensorWork(warp, lane, [form, ctas, place, chunks] {
      for (Cta* const cta : ctas) {
        for (int row = 0; row < TensorMemory::kLanes; ++row) {
          for (size_t c = 0; c < form.chunks; ++c) {
            const size_t chunk = static_cast<size_t>(form.RowOf(row)) * form.chunks + c;
            for (size_t word = 0; word < 4; ++word) {
              std::memcpy(
                  &cta->tensor_memory.At(row, place.column + static_cast<int>(4 * c + word)),
                  cta->shared(chunks[chunk]) + 4 * word, 4);
            }
          }
        }
      }
    });
  });
  return Flow::kNext;
}

// ---- decoding

bool ParseKind(const Instruction& instruction, TensorMmaForm* form) {
  constexpr std::string_view kKinds[] = {"kind::f16",     "kind::tf32",     "kind::f8f6f4",
                                         "kind::i8",      "kind::mxf8f6f4", "kind::mxf4",
                                         "kind::mxf4nvf4"};
  const auto known = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](std::string_view kind) { return instruction.Has(kind); });
  if (known == std::end(kKinds) || instruction.Has("sp") || instruction.Has("ws")) return false;
  form->kind = static_cast<Kind>(known - std::begin(kKinds));
  const bool scaled = form->kind >= Kind::kMxf8f6f4;
  if (scaled != instruction.Has("block_scale")) return false;
  if (!scaled) return true;
  const bool blocks16 = instruction.Has("scale_vec::4X") || instruction.Has("block16");
  const bool blocks32 = instruction.Has("scale_vec::2X") || instruction.Has("block32");
  switch (form->kind) {
    case Kind::kMxf8f6f4:
      form->scales = 1;
      return !blocks16 && !instruction.Has("scale_vec::2X");
    case Kind::kMxf4:
      form->scales = 2;
      return !blocks16;
    default:
      form->scales = blocks16 ? 4 : 2;
      return blocks16 != blocks32;
  }
}

}  // namespace

// [d], a or [a], b, idesc, {[scales of A], [scales of B],} {{mask},} enable-input-d
absl::Status DecodeTensorMma(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  TensorMmaForm form;
  form.pair = instruction.Has("cta_group::2");
  if (!ParseKind(instruction, &form) || (!form.pair && !instruction.Has("cta_group::1")) ||
      operands.size() < 5) {
    return decoder.Unknown(instruction);
  }
  op->op_class = OpClass::kMatrix;
  form.a_in_tensor_memory = operands[1].kind == ptx::Operand::Kind::kAddress;
  std::vector<Slot> sources;
  AddAddress(decoder, operands[0], &sources);
  if (form.a_in_tensor_memory) {
    AddAddress(decoder, operands[1], &sources);
  } else {
    sources.push_back(decoder.Read(operands[1], Type::kB64));
  }
  sources.push_back(decoder.Read(operands[2], Type::kB64));
  sources.push_back(decoder.Read(operands[3], Type::kB32));
  size_t next = 4;
  if (form.scales > 0) {
    if (operands.size() < 7) return decoder.Unknown(instruction);
    AddAddress(decoder, operands[next++], &sources);
    AddAddress(decoder, operands[next++], &sources);
  }
  if (operands[next].kind == ptx::Operand::Kind::kVector) {
    form.masked = true;
    const std::vector<Slot> masks = decoder.ReadAll(operands[next++], Type::kB32);
    if (masks.size() != (form.pair ? 8u : 4u)) return decoder.Unknown(instruction);
    sources.insert(sources.end(), masks.begin(), masks.end());
  }
  if (operands.size() != next + 1) return decoder.Unknown(instruction);  // scale-input-d
  sources.push_back(decoder.Read(operands[next], Type::kPred));
  decoder.SetSrc(op, sources);
  op->imm = form.Pack();
  op->run = &StartMma;
  return absl::OkStatus();
}

// [to], descriptor
absl::Status DecodeTensorCp(Decoder& decoder, const Instruction& instruction, Op* op) {
  CopyForm form;
  form.pair = instruction.Has("cta_group::2");
  if (instruction.Has("128x256b")) {
    form.chunks = 2;
  } else if (instruction.Has("32x128b") && instruction.Has("warpx4")) {
    form.rows = 32;
  } else if (instruction.Has("64x128b")) {
    form.rows = 64;
    form.interleaved = instruction.Has("warpx2::02_13");
    if (!form.interleaved && !instruction.Has("warpx2::01_23")) return decoder.Unknown(instruction);
  } else if (!instruction.Has("128x128b")) {
    return decoder.Unknown(instruction);
  }
  for (const std::string_view part : instruction.parts) {
    if (part.starts_with("b8x16")) return decoder.Unknown(instruction);  // unpacks on its way
  }
  if (instruction.operands.size() != 2) return decoder.Unknown(instruction);
  std::vector<Slot> sources;
  AddAddress(decoder, instruction.operands[0], &sources);
  sources.push_back(decoder.Read(instruction.operands[1], Type::kB64));
  decoder.SetSrc(op, sources);
  op->imm = form.Pack();
  op->run = &StartCopy;
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
