// FlashAttention-2 over paged KV. A CTA of kWarps warps computes kWarps * 16 rows of one KV head;
// keys and values pass through two stages each of shared memory, in tiles that all warps share.
//
//   row r of an item = its token r / group, head r % group of the group; 16 rows to a warp
//   shared: Q [rows][head_dim] | K [2][kKeys][head_dim] | V [2][kKeys][head_dim], swizzled
//   copies:    K(t+1) ---------. V(t+1) ---------.
//   warps:  wait K(t), scores(t) | softmax(t) | wait V(t), O += P V | chunk's end: fold
//
// K and V of a tile are groups of their own: V(t) is on its way while the scores are computed. Two
// barriers a tile do: K's stage is loaded again behind the second one, V's behind the first one.
//
// What a row does not see is no part of its result, bit by bit: a masked score is -inf, its weight
// zero; factors are exactly 1 then. Hence a warp may leave out tiles that none of its rows sees.
#pragma once

#include "kernels/cuda/attention/launch.h"
#include "kernels/cuda/attention/mutant.h"
#include "kernels/cuda/attention/softmax.cuh"
#include "kernels/cuda/primitives/elements.cuh"
#include "kernels/cuda/primitives/mma.cuh"

namespace trireme::cuda {

template <DType kElement, int kDim, int kNumWarps, bool kCap>
struct AttentionKernel {
  static constexpr AttentionMutant kMutant = AttentionMutant::kNone;
  static constexpr DType kType = kElement;
  static constexpr int kHeadDim = kDim, kWarps = kNumWarps;
  static constexpr bool kSoftCap = kCap, kSplit = kNumWarps == 1;
  static constexpr bool kInMemory = FoldsInMemory(kDim) && !kSplit;
  static constexpr int kThreads = kWarps * 32, kRows = kWarps * kWarpRows;
  static constexpr int kKeys = kDim <= 64 ? 64 : 32;
  static constexpr int kRowBytes = kDim * 2, kRowPieces = kRowBytes / 16;
  static constexpr int kTileBytes = kKeys * kRowBytes;
  static constexpr int kSharedBytes = kRows * kRowBytes + 4 * kTileBytes;
  // CTAs of an SM that registers are to suffice for.
  static constexpr int kLeastCtas = kSplit || kDim > 128 ? 1 : 2;
  static constexpr int kPartialFloats = kDim + kPartialRowExtra;
  static_assert(kChunk % kKeys == 0);
};

template <typename Kernel>
struct AttentionCta {
  static constexpr int kHeadDim = Kernel::kHeadDim, kKeys = Kernel::kKeys;
  static constexpr int kColumns = kHeadDim / 8, kScoreColumns = kKeys / 8;
  static constexpr int kWarpKeys = kKeys / Kernel::kWarps, kLaneKeys = (kWarpKeys + 31) / 32;
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
  int positions[2];  // of the thread's rows
  uint32_t cache_rows[kLaneKeys];
  int warp_first, warp_last;  // least and greatest position of the warp's rows

  __device__ int FirstSeen(int position) const {
    return a.window > 0 ? max(position - a.window + 1, 0) : 0;
  }
  __device__ int Position(int row) const { return item.first_position + row / a.group; }
  __device__ uint32_t KeyStage(int tile) const {
    return q_tile + Kernel::kRows * Kernel::kRowBytes +
           tile % 2 * (Is(Mutant::kWrongStageStride) ? Kernel::kTileBytes / 2 : Kernel::kTileBytes);
  }
  __device__ uint32_t ValueStage(int tile) const { return KeyStage(tile) + 2 * Kernel::kTileBytes; }
  // 16-byte pieces of a row are so placed that eight rows of a matrix hit all banks: by exclusive
  // or with the row, within groups of as many pieces as are aligned for any row.
  static constexpr int kGroup = Kernel::kRowPieces % 8 == 0 ? 8 : 4;
  __device__ static uint32_t PieceAt(uint32_t tile, int row, int piece) {
    const int swizzle = Is(Mutant::kNoSwizzle) ? 0 : kGroup == 8 ? row & 7 : row >> 1 & 3;
    return tile + static_cast<uint32_t>(row * Kernel::kRowBytes + (piece ^ swizzle) * 16);
  }
  // The address of piece p + `pieces` from that of p (0 or 1), for an even number of pieces: one
  // exclusive or, and an offset that is part of the instruction.
  __device__ static uint32_t Advance(uint32_t address, int pieces) {
    return (address ^ static_cast<uint32_t>(pieces % kGroup * 16)) +
           static_cast<uint32_t>(pieces / kGroup * kGroup * 16);
  }
  __device__ static void Barrier() {
    if constexpr (Kernel::kWarps > 1) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  }

  __device__ int Head(int row) const { return kv_head * a.group + row % a.group; }
  __device__ int64_t Token(int row) const { return item.first_token + row / a.group; }

  __device__ void LoadQueries() const {
    constexpr int kPieces = Kernel::kRowPieces;
    for (int i = static_cast<int>(threadIdx.x); i < Kernel::kRows * kPieces;
         i += Kernel::kThreads) {
      const int row = i / kPieces, piece = i % kPieces, r = first_row + row;
      const bool valid = r < num_rows;
      const int64_t offset = valid ? Token(r) * a.q_stride + Head(r) * kHeadDim + piece * 8 : 0;
      ptx::CopyAsync(PieceAt(q_tile, row, piece), a.q + offset, valid);
    }
  }

  // The rows of the cache that hold the warp's share of a tile's keys, one to a lane; kNoRow for
  // zeros.
  // Looked up a tile ahead, and once for K and V.
  __device__ void LookUp(int tile) {
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      const int key = tile * kKeys + warp * kWarpKeys + (lane + 32 * i) % kWarpKeys;
      cache_rows[i] = kNoRow;
      const bool live = Is(Mutant::kNoZeroFill) || key < live_end;
      if (key < live_begin || !live) continue;
      const int entry = (Is(Mutant::kNoZeroFill) ? min(key, live_end - 1) : key) >> a.block_shift;
      const uint32_t block = a.block_tables[item.sequence * a.table_stride + entry];
      const uint32_t slot = key & ((1 << a.block_shift) - 1);
      cache_rows[i] = block * a.block_rows + (kv_head << a.block_shift) + slot;
    }
  }
  __device__ void LoadTile(uint32_t stage, const uint16_t* cache) const {
    constexpr int kPieces = Kernel::kRowPieces;
    static_assert(kWarpKeys * kPieces % 32 == 0 && (kLaneKeys == 1 || 32 % kPieces == 0));
#pragma unroll 4  // more in flight takes registers that O needs
    for (int i = 0; i < kWarpKeys * kPieces / 32; ++i) {
      const int row = (i * 32 + lane) / kPieces, piece = (i * 32 + lane) % kPieces;
      const uint32_t lookup =
          kLaneKeys == 1 || i * 32 / kPieces < 32 ? cache_rows[0] : cache_rows[kLaneKeys - 1];
      const uint32_t from = __shfl_sync(~0u, lookup, row % 32);
      const bool live = from != kNoRow;
      const uint16_t* address = cache + uint64_t{live ? from : 0} * kHeadDim + piece * 8;
      uint32_t to;
      if constexpr (kGroup == 8 && !Is(Mutant::kNoSwizzle)) {  // the step's rows differ from the
                                                               // first one's in other bits
        constexpr int kStep = 32 / kPieces;
        const uint32_t first = PieceAt(stage, warp * kWarpKeys + lane / kPieces, piece);
        to = (first ^ static_cast<uint32_t>(i * kStep % 8 * 16)) + i * kStep * Kernel::kRowBytes;
      } else {
        to = PieceAt(stage, warp * kWarpKeys + row, piece);
      }
      ptx::CopyAsync(to, address, live);
    }
  }

  // Whether any row of the warp sees any key of the tile; whether one does not see all of them.
  __device__ bool Sees(int tile) const {
    return tile * kKeys <= warp_last - (Is(Mutant::kSeesTooLittle) ? 1 : 0) &&
           (tile + 1) * kKeys > FirstSeen(warp_first);
  }
  __device__ bool IsEdge(int tile) const {
    return (tile + 1) * kKeys - 1 > warp_first || tile * kKeys < FirstSeen(warp_last);
  }

  __device__ void ComputeScores(uint32_t keys, Scores& scores) const {
    const uint32_t q_at = PieceAt(q_tile, warp * 16 + lane % 16, lane / 16);
    const uint32_t key_at = PieceAt(keys, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      uint32_t q[4];
      ptx::LoadMatrices(q, Advance(q_at, 2 * k));
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        uint32_t b[4];
        ptx::LoadMatrices(b, Advance(key_at, 2 * k) + n * 16 * Kernel::kRowBytes);
        ptx::MultiplyAddOf<Kernel::kType>(scores[2 * n], q, b[0], b[1]);
        ptx::MultiplyAddOf<Kernel::kType>(scores[2 * n + 1], q, b[2], b[3]);
      }
    }
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

  // Turns scores into weights relative to the rows' new maximum, and O and the sums with them.
  __device__ void Softmax(int tile, Scores& scores, float (&max)[2], float (&sum)[2],
                          Output& o) const {
    if constexpr (Kernel::kSoftCap) {
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) scores[n][j] = Tanh(__fmul_rn(scores[n][j], a.cap_scale));
      }
    }
    if (IsEdge(tile)) Mask(tile, scores);
    float rescale[2];
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
    // Maxima seldom change once a few tiles were seen, and a factor of 1 changes nothing.
    if (!__any_sync(~0u, rescale[0] != 1.0f || rescale[1] != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) o[n][j] = __fmul_rn(o[n][j], rescale[j / 2]);
    }
  }

  __device__ void AddValues(uint32_t values, const Scores& weights, Output& o) const {
    const uint32_t value_at = PieceAt(values, lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const float(&low)[4] = weights[2 * k];
      const float(&high)[4] = weights[2 * k + 1];
      const uint32_t p[4] = {
          Pack<Kernel::kType>(low[0], low[1]), Pack<Kernel::kType>(low[2], low[3]),
          Pack<Kernel::kType>(high[0], high[1]), Pack<Kernel::kType>(high[2], high[3])};
#pragma unroll
      for (int n = 0; n < kHeadDim / 16; ++n) {
        uint32_t b[4];
        ptx::LoadMatricesTransposed(b, Advance(value_at, 2 * n) + k * 16 * Kernel::kRowBytes);
        ptx::MultiplyAddOf<Kernel::kType>(o[2 * n], p, b[0], b[1]);
        ptx::MultiplyAddOf<Kernel::kType>(o[2 * n + 1], p, b[2], b[3]);
      }
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

  // Through the warp's own rows of the query tile, so that rows are stored 16 bytes a lane.
  __device__ void StoreRows(const Output& o, const float (&max)[2], const float (&sum)[2]) const {
    constexpr int kPieces = Kernel::kRowPieces;
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
    for (int i = lane; i < 16 * kPieces; i += 32) {
      const int row = warp * 16 + i / kPieces, piece = i % kPieces, r = first_row + row;
      if (r >= num_rows && !Is(Mutant::kNoRowBound)) break;
      const uint4 v = ptx::LoadShared16(PieceAt(q_tile, row, piece));
      *reinterpret_cast<uint4*>(a.out + Token(r) * a.out_stride + Head(r) * kHeadDim + piece * 8) =
          v;
    }
  }

  __device__ void Run() {
    const int warp_row = first_row + warp * 16;
    warp_first = Position(warp_row);
    warp_last = warp_row < num_rows ? Position(min(warp_row + 15, num_rows - 1)) : -1;
    positions[0] = Position(Row(0));
    positions[1] = Position(Row(1));
    const int begin = max(item.first_chunk * kChunk, live_begin) / kKeys;
    const int end = (min(item.end_chunk * kChunk, live_end) + kKeys - 1) / kKeys;

    Output o = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    [[maybe_unused]] Running running{};

    LookUp(begin);
    LoadQueries();
    LoadTile(KeyStage(begin), a.k);
    ptx::CommitCopies();
    LoadTile(ValueStage(begin), a.v);
    ptx::CommitCopies();
    if (begin + 1 < end) LookUp(begin + 1);
    for (int tile = begin; tile < end; ++tile) {
      if (tile + 1 < end) LoadTile(KeyStage(tile + 1), a.k);
      ptx::CommitCopies();
      ptx::WaitCopies<Is(Mutant::kLaxWaitForKeys) ? 3 : 2>();
      if (!Is(Mutant::kNoBarrierForKeys)) Barrier();
      const bool sees = Sees(tile);
      Scores scores = {};
      if (sees) ComputeScores(KeyStage(tile), scores);
      if (tile + 1 < end) LoadTile(ValueStage(tile + 1), a.v);
      if (!Is(Mutant::kNoCommitOfValues)) ptx::CommitCopies();
      if (tile + 2 < end && !Is(Mutant::kStaleLookUp)) LookUp(tile + 2);
      if (sees) Softmax(tile, scores, max, sum, o);
      ptx::WaitCopies<Is(Mutant::kLaxWaitForValues) ? 3 : 2>();
      if (!Is(Mutant::kNoBarrierForValues)) Barrier();
      if (sees) AddValues(ValueStage(tile), scores, o);

      if constexpr (!Kernel::kSplit) {
        if (tile + 1 < end && (tile + 1) % (kChunk / kKeys) == 0) {
          AddUp(sum);
          FoldChunk(o, max, sum, running, false);
        }
      }
    }
    AddUp(sum);
    if (Kernel::kSplit && item.partial >= 0) {
      StorePartial(o, max, sum);
      return;
    }
    FoldChunk(o, max, sum, running, true);
    StoreRows(o, running.max, running.sum);
  }
};

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kLeastCtas)
    PagedAttention(const __grid_constant__ AttentionArguments a) {
  extern __shared__ __align__(128) char shared[];
  const int work = *a.count * a.num_kv_heads * a.row_tiles;
  for (int w = static_cast<int>(blockIdx.x); w < work; w += static_cast<int>(gridDim.x)) {
    const int row_tile = w % a.row_tiles, rest = w / a.row_tiles;
    const AttentionItem item = a.items[rest / a.num_kv_heads];
    const int first_row = row_tile * Kernel::kRows;
    if (first_row >= item.num_tokens * a.group) continue;
    AttentionCta<Kernel>{.a = a,
                         .item = item,
                         .kv_head = rest % a.num_kv_heads,
                         .first_row = first_row,
                         .q_tile = ptx::SharedAddress(shared)}
        .Run();
    // The next item's copies overwrite what is read here.
    if (Kernel::kMutant != AttentionMutant::kNoBarrierBetweenItems) AttentionCta<Kernel>::Barrier();
  }
}

template <typename Kernel>
cudaError_t LaunchKernel(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  cudaError_t error = cudaFuncSetAttribute(
      PagedAttention<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes);
  int ctas = 0;
  if (error == cudaSuccess) {
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&ctas, PagedAttention<Kernel>,
                                                          Kernel::kThreads, Kernel::kSharedBytes);
  }
  if (error != cudaSuccess) return error;
  const int64_t most = int64_t{launch.max_items} * arguments.num_kv_heads * arguments.row_tiles;
  const int64_t resident = int64_t{launch.num_sms} * ctas;
  const auto grid = static_cast<unsigned>(most < resident ? most : resident);
  PagedAttention<Kernel>
      <<<grid, Kernel::kThreads, Kernel::kSharedBytes, launch.stream>>>(arguments);
  return cudaGetLastError();
}

template <DType kType, int kHeadDim>
cudaError_t LaunchOfType(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  if (launch.decode) {
    return launch.soft_cap
               ? LaunchKernel<AttentionKernel<kType, kHeadDim, 1, true>>(launch, arguments)
               : LaunchKernel<AttentionKernel<kType, kHeadDim, 1, false>>(launch, arguments);
  }
  return launch.soft_cap
             ? LaunchKernel<AttentionKernel<kType, kHeadDim, 4, true>>(launch, arguments)
             : LaunchKernel<AttentionKernel<kType, kHeadDim, 4, false>>(launch, arguments);
}

template <int kHeadDim>
cudaError_t LaunchOfHeadDim(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  return launch.type == DType::kBF16 ? LaunchOfType<DType::kBF16, kHeadDim>(launch, arguments)
                                     : LaunchOfType<DType::kF16, kHeadDim>(launch, arguments);
}

}  // namespace trireme::cuda
