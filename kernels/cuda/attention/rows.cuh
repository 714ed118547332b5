// What a warp of prefill or decode does with its 16 rows: masks, softmax, chunks, results. Shared
// by the kernels of all architectures, which differ in how tiles are copied and multiplied, so that
// a row has the same bits in each (as softmax.cuh).
//
//   row r of an item = its token r / group, head r % group of the group
//
// A Kernel says kType, kHeadDim, kKeys (positions of a tile), kSoftCap, kSplit (chunks have warps
// of their own), kInMemory (where the state between chunks is), the bytes of rows, and PieceAt:
// where a tile's 16-byte pieces lie in shared memory.
#pragma once

#include "kernels/cuda/attention/launch.h"
#include "kernels/cuda/attention/mutant.h"
#include "kernels/cuda/attention/softmax.cuh"
#include "kernels/cuda/primitives/elements.cuh"
#include "kernels/cuda/primitives/mma.cuh"

namespace trireme::cuda {

// Positions of a tile: between one rescaling of O and the next, hence part of a result's bits.
constexpr int TileKeys(int head_dim) { return head_dim <= 64 ? 64 : 32; }

template <typename Kernel>
struct AttentionRows {
  static constexpr int kHeadDim = Kernel::kHeadDim, kKeys = Kernel::kKeys;
  static constexpr int kColumns = kHeadDim / 8, kScoreColumns = kKeys / 8;
  using Output =
      float[kColumns][4];  // [n][2 i + j]: row lane / 4 + 8 i, column 8 n + 2 (lane % 4) + j
  using Scores = float[kScoreColumns][4];
  using Mutant = AttentionMutant;
  __host__ __device__ static constexpr bool Is(Mutant mutant) { return Kernel::kMutant == mutant; }
  static constexpr uint32_t kNoRow = ~0u;

  const AttentionArguments& a;
  const AttentionItem& item;
  const int kv_head;
  const int first_row;  // of the CTA, in the item
  const uint32_t q_tile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int num_rows = item.num_tokens * a.group;
  // KV that any row of the item sees: [live_begin, live_end).
  const int live_begin = FirstSeen(item.first_position);
  const int live_end = item.first_position + item.num_tokens;
  int positions[2];           // of the thread's rows
  int warp_first, warp_last;  // least and greatest position of the warp's rows

  __device__ int FirstSeen(int position) const {
    return a.window > 0 ? max(position - a.window + 1, 0) : 0;
  }
  __device__ int Position(int row) const { return item.first_position + row / a.group; }
  __device__ int Head(int row) const { return kv_head * a.group + row % a.group; }
  __device__ int64_t Token(int row) const { return item.first_token + row / a.group; }
  __device__ static uint32_t PieceAt(uint32_t tile, int row, int piece) {
    return Kernel::template PieceAt<!Is(Mutant::kNoSwizzle)>(tile, row, piece);
  }

  // Finds out which positions this warp's and this thread's rows have.
  __device__ void Locate() {
    const int warp_row = first_row + warp * 16;
    warp_first = Position(warp_row);
    warp_last = warp_row < num_rows ? Position(min(warp_row + 15, num_rows - 1)) : -1;
    positions[0] = Position(Row(0));
    positions[1] = Position(Row(1));
  }

  // The row of the cache that holds a key; kNoRow for zeros.
  __device__ uint32_t CacheRow(int key) const {
    const bool live = Is(Mutant::kNoZeroFill) || key < live_end;
    if (key < live_begin || !live) return kNoRow;
    const int entry = (Is(Mutant::kNoZeroFill) ? min(key, live_end - 1) : key) >> a.block_shift;
    const uint32_t block = a.block_tables[item.sequence * a.table_stride + entry];
    const uint32_t slot = key & ((1 << a.block_shift) - 1);
    return block * a.block_rows + (kv_head << a.block_shift) + slot;
  }

  // Whether any row of the warp sees any key of the tile; whether one does not see all of them.
  __device__ bool Sees(int tile) const {
    return tile * kKeys <= warp_last - (Is(Mutant::kSeesTooLittle) ? 1 : 0) &&
           (tile + 1) * kKeys > FirstSeen(warp_first);
  }
  __device__ bool IsEdge(int tile) const {
    return (tile + 1) * kKeys - 1 > warp_first || tile * kKeys < FirstSeen(warp_last);
  }

  __device__ void Mask(int tile, Scores& scores) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int first = Is(Mutant::kNoMaskOnWindow)
                            ? 0
                            : FirstSeen(positions[i]) - (Is(Mutant::kWindowOffByOne) ? 1 : 0);
      const int last = positions[i] + (Is(Mutant::kMaskOffByOne) ? 1 : 0);
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int key = tile * kKeys + n * 8 + lane % 4 * 2 + j;
          if (key > last || key < first) scores[n][2 * i + j] = -INFINITY;
        }
      }
    }
  }

  // Turns scores into weights relative to the rows' new maximum, and the sums with them; O is to
  // follow by Rescale.
  __device__ void Weigh(int tile, Scores& scores, float (&max)[2], float (&sum)[2],
                        float (&rescale)[2]) const {
    if constexpr (Kernel::kSoftCap) {
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) scores[n][j] = Tanh(__fmul_rn(scores[n][j], a.cap_scale));
      }
    }
    if (IsEdge(tile)) Mask(tile, scores);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float most = scores[0][2 * i];
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) most = fmaxf(most, scores[n][2 * i + j]);
      }
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      most = fmaxf(max[i], __fmul_rn(most, a.scale_log2));
      const float base = Is(Mutant::kNoBaseGuard) ? most : BaseOf(most);
      rescale[i] = Is(Mutant::kNoRescale) ? 1.0f : ptx::Exp2(__fsub_rn(max[i], base));
      max[i] = most;
      sum[i] = __fmul_rn(sum[i], rescale[i]);
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * i + j];
          score = ptx::Exp2(__fmaf_rn(score, a.scale_log2, -base));
          sum[i] = __fadd_rn(sum[i], score);
        }
      }
    }
  }
  __device__ static void Rescale(const float (&rescale)[2], Output& o) {
    // Maxima seldom change once a few tiles were seen, and a factor of 1 changes nothing.
    if (!__any_sync(~0u, rescale[0] != 1.0f || rescale[1] != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) o[n][j] = __fmul_rn(o[n][j], rescale[j / 2]);
    }
  }

  // The thread's two rows.
  __device__ int Row(int i) const { return first_row + warp * 16 + lane / 4 + 8 * i; }
  __device__ float* PartialRow(int row) const {
    const int64_t at = item.partial + int64_t{row / a.group} * a.num_heads + Head(row);
    return a.partials + at * Kernel::kPartialFloats;
  }
  __device__ void StorePartialRow(int i, const Output& o) const {
    float* to = PartialRow(Row(i)) + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      *reinterpret_cast<float2*>(to + n * 8) = make_float2(o[n][2 * i], o[n][2 * i + 1]);
    }
  }
  __device__ void StorePartial(const Output& o, const float (&max)[2],
                               const float (&sum)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (Row(i) >= num_rows) continue;
      StorePartialRow(i, o);
      if (lane % 4 == 0) {
        *reinterpret_cast<float2*>(PartialRow(Row(i)) + kHeadDim) =
            make_float2(Is(Mutant::kPartialWithoutMax) ? 0.0f : max[i], sum[i]);
      }
    }
  }

  // What a row's chunks have come to. O stays in registers where they hold it, else in memory: each
  // thread keeps its own elements there, so that no barrier is needed.
  struct Running {
    float o[Kernel::kSplit || Kernel::kInMemory ? 1 : kColumns][4] = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    bool any = false;
  };

  // The sums of a row's four threads.
  __device__ static void AddUp(float (&sum)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 1));
      if (!Is(Mutant::kHalfSum)) sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 2));
    }
  }

  // Folds a chunk into the running state and starts the next one, or leaves O of all in `o`.
  __device__ void FoldChunk(Output& o, float (&max)[2], float (&sum)[2], Running& running,
                            bool last) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (Is(Mutant::kForgetsChunks)) {
        running.max[i] = -INFINITY;
        running.sum[i] = 0.0f;
      }
      const FoldFactors factors = Fold(max[i], sum[i], &running.max[i], &running.sum[i]);
      const bool valid = Row(i) < num_rows;
      [[maybe_unused]] const float* from = nullptr;
      if constexpr (Kernel::kInMemory) {
        if (valid && running.any) from = PartialRow(Row(i)) + lane % 4 * 2;
      }
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        float2 r = make_float2(0.0f, 0.0f);
        if constexpr (Kernel::kInMemory) {
          if (from != nullptr) r = *reinterpret_cast<const float2*>(from + n * 8);
        } else if constexpr (!Kernel::kSplit) {
          r = make_float2(running.o[n][2 * i], running.o[n][2 * i + 1]);
        }
        o[n][2 * i] = Folded(r.x, o[n][2 * i], factors);
        o[n][2 * i + 1] = Folded(r.y, o[n][2 * i + 1], factors);
      }
      if (!Is(Mutant::kKeepsMax)) max[i] = -INFINITY;
      sum[i] = 0.0f;
      if constexpr (Kernel::kInMemory) {
        if (!last && valid) StorePartialRow(i, o);
      }
    }
    running.any = true;
    if (last) return;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if constexpr (!Kernel::kSplit && !Kernel::kInMemory) running.o[n][j] = o[n][j];
        o[n][j] = 0.0f;
      }
    }
  }

  // Puts the result of the warp's rows in their place in the query tile, so that they are then
  // stored 16 bytes a lane.
  __device__ void StageRows(const Output& o, const float (&max)[2], const float (&sum)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = warp * 16 + lane / 4 + 8 * i;
      float all = sum[i];
      if (Is(Mutant::kSinkTwice) && a.sinks != nullptr) {
        all += ptx::Exp2(a.sinks[Head(Row(i))] * 1.44269504f - max[i]);
      }
      const float factor = Finish(max[i], all, a.sinks, Head(Row(i)));
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        ptx::StoreShared(
            PieceAt(q_tile, row, n) + static_cast<uint32_t>(lane % 4 * 4),
            Pack<Kernel::kType>(Finished(o[n][2 * i], factor), Finished(o[n][2 * i + 1], factor)));
      }
    }
    if (!Is(Mutant::kNoWarpBarrier)) __syncwarp();
  }
};

}  // namespace trireme::cuda
