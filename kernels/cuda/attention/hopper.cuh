// Prefill on Hopper's warpgroups (after FlashAttention-3, Shah et al., 2024): two consumers of 64
// rows each, one producer that gathers the paged KV by cp.async into a ring of slots, each a tile
// of 64 keys or of their values.
//
//   producer    slot <- K(t) | slot <- V(t) | ...    full[s]: a slot has landed
//   consumers   S = Q K(t)^T | softmax | O += P V(t) | chunk's end: fold    empty[s]: it was read
//
// S and O are wgmma's accumulators, P its A operand, all in registers; Q, K and V lie in shared
// memory as wgmma reads them: lines of 128 bytes (of 64, where a row is no multiple of 128), 64
// rows below each other, swizzled, then the next columns. O += P V is under way while the next
// scores are, and while the second half's softmax is; one warpgroup multiplies while the other one
// is at its softmax.
//
// Tiles of the softmax, its order and the chains of additions over k are those of attention.cuh, so
// a row has the bits that decode gives it, as far as wgmma and mma.sync add alike.
#pragma once

#include "kernels/cuda/attention/rows.cuh"
#include "kernels/cuda/primitives/device.h"
#include "kernels/cuda/primitives/hopper.cuh"
#include "kernels/cuda/primitives/wgmma.cuh"

namespace trireme::cuda {

// Which 16 bytes of a tile a lane takes.
struct Piece {
  int row, piece;
};

template <DType kElement, int kDim, bool kCap>
struct HopperAttention {
  static constexpr AttentionMutant kMutant = AttentionMutant::kNone;
  static constexpr DType kType = kElement;
  static constexpr int kHeadDim = kDim, kKeys = TileKeys(kDim);
  static constexpr bool kSoftCap = kCap, kSplit = false, kInMemory = FoldsInMemory(kDim);
  static constexpr int kConsumers = 2, kRows = 64 * kConsumers, kThreads = 128 * (kConsumers + 1);
  static constexpr int kSlotKeys = 64, kParts = kSlotKeys / kKeys;  // of the softmax
  static constexpr int kRowBytes = kDim * 2, kRowPieces = kRowBytes / 16;
  static constexpr int kPartialFloats = kDim + kPartialRowExtra;
  static constexpr int kLinePieces = kRowPieces % 8 == 0 ? 8 : 4, kLineBytes = 16 * kLinePieces;
  static constexpr int kSlotBytes = kSlotKeys * kRowBytes, kSlots = kDim > 128 ? 4 : 8;
  // Of a thread; together what 168 of each are.
  static constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;
  static_assert(kChunk % kSlotKeys == 0 && kRows == kHopperPrefillRows);

  // Of 64 rows below each other, then 64 more.
  template <bool kSwizzled>
  __device__ static uint32_t PieceAt(uint32_t tile, int row, int piece) {
    const int swizzle = !kSwizzled ? 0 : kLinePieces == 8 ? row & 7 : row >> 1 & 3;
    return tile +
           static_cast<uint32_t>(row / 64 * 64 * kRowBytes + piece / kLinePieces * 64 * kLineBytes +
                                 row % 64 * kLineBytes + (piece % kLinePieces ^ swizzle) * 16);
  }
  // Of a tile of `rows`: eight lanes take 128 bytes that lie together.
  __device__ static Piece PieceOf(int i, int rows) {
    const int line = i / kLinePieces;
    return {line % rows, line / rows * kLinePieces + i % kLinePieces};
  }
};

template <typename Kernel>
struct alignas(1024) HopperAttentionShared {
  char q[Kernel::kRows * Kernel::kRowBytes];  // in the end the output
  char slots[Kernel::kSlots][Kernel::kSlotBytes];
  uint64_t full[Kernel::kSlots], empty[Kernel::kSlots];
};

// Where producer and consumers are in the ring.
template <typename Kernel>
struct HopperSlot {
  HopperAttentionShared<Kernel>& shared;
  int slot = 0;
  uint32_t parity = 0;

  __device__ uint32_t Tile() const { return hopper::SharedAddress(shared.slots[slot]); }
  __device__ uint32_t Full() const { return hopper::SharedAddress(&shared.full[slot]); }
  __device__ uint32_t Empty() const { return hopper::SharedAddress(&shared.empty[slot]); }
  __device__ void Next() {
    if (++slot < Kernel::kSlots) return;
    slot = 0;
    parity ^= 1;
  }
};

// Tiles that rows of an item see.
struct HopperTiles {
  int begin, end;
};

template <typename Kernel>
struct HopperProducer {
  using Mutant = AttentionMutant;
  using Rows = AttentionRows<Kernel>;
  static constexpr int kWarpKeys = Kernel::kSlotKeys / 4;

  HopperSlot<Kernel> at;
  uint32_t landing = 0;  // `full` of the slot that was copied to last; 0: none
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32 % 4;

  __device__ void Copy(const Rows& rows, uint32_t cache_row, const uint16_t* cache) {
    if (Kernel::kMutant != Mutant::kNoWaitForSlot) {
      hopper::WaitBarrier(at.Empty(), at.parity ^ 1);  // the first round passes
    }
    constexpr int kPieces = Kernel::kRowPieces;
#pragma unroll 4
    for (int i = 0; i < kWarpKeys * kPieces / 32; ++i) {
      const auto [row, piece] = Kernel::PieceOf(i * 32 + lane, kWarpKeys);
      const uint32_t from = __shfl_sync(~0u, cache_row, row);
      const bool live = from != Rows::kNoRow;
      ptx::CopyAsync(Rows::PieceAt(at.Tile(), warp * kWarpKeys + row, piece),
                     cache + uint64_t{live ? from : 0} * Kernel::kHeadDim + piece * 8, live);
    }
    ptx::CommitCopies();
    if (landing != 0) Publish<Kernel::kMutant == Mutant::kPublishesEarly ? 2 : 1>();
    landing = at.Full();
    at.Next();
  }
  // Of the slot before those of the last kGroups copies.
  template <int kGroups>
  __device__ void Publish() const {
    ptx::WaitCopies<kGroups>();
    if (Kernel::kMutant != Mutant::kNoProxyFence) hopper::FenceProxyAsync();
    __syncwarp();
    if (lane == 0) hopper::Arrive(landing);
  }
  __device__ void Run(const Rows& rows, const HopperTiles& tiles) {
    const int key = warp * kWarpKeys + lane % kWarpKeys;
    uint32_t next = rows.CacheRow(tiles.begin * Kernel::kSlotKeys + key);
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
      const uint32_t cache_row = next;
      if (tile + 1 < tiles.end) next = rows.CacheRow((tile + 1) * Kernel::kSlotKeys + key);
      Copy(rows, cache_row, rows.a.k);
      Copy(rows, cache_row, rows.a.v);
    }
  }
  __device__ void Finish() const {
    if (landing != 0) Publish<0>();
  }
};

}  // namespace trireme::cuda
