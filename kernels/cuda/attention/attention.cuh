// FlashAttention-2 over paged KV. A CTA of kWarps warps computes kWarps * 16 rows of one KV head;
// keys and values pass through two stages each of shared memory, in tiles that all warps share.
//
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

#include "kernels/cuda/attention/rows.cuh"

namespace trireme::cuda {

template <DType kElement, int kDim, int kNumWarps, bool kCap>
struct AttentionKernel {
  static constexpr AttentionMutant kMutant = AttentionMutant::kNone;
  static constexpr DType kType = kElement;
  static constexpr int kHeadDim = kDim, kWarps = kNumWarps;
  static constexpr bool kSoftCap = kCap, kSplit = kNumWarps == 1;
  static constexpr bool kInMemory = FoldsInMemory(kDim) && !kSplit;
  static constexpr int kThreads = kWarps * 32, kRows = kWarps * kWarpRows;
  static constexpr int kKeys = TileKeys(kDim);
  static constexpr int kRowBytes = kDim * 2, kRowPieces = kRowBytes / 16;
  static constexpr int kTileBytes = kKeys * kRowBytes;
  static constexpr int kSharedBytes = kRows * kRowBytes + 4 * kTileBytes;
  // CTAs of an SM that registers are to suffice for.
  static constexpr int kLeastCtas = kSplit || kDim > 128 ? 1 : 2;
  static constexpr int kPartialFloats = kDim + kPartialRowExtra;
  static_assert(kChunk % kKeys == 0);
  // 16-byte pieces of a row are so placed that eight rows of a matrix hit all banks: by exclusive
  // or with the row, within groups of as many pieces as are aligned for any row.
  static constexpr int kGroup = kRowPieces % 8 == 0 ? 8 : 4;
  template <bool kSwizzled>
  __device__ static uint32_t PieceAt(uint32_t tile, int row, int piece) {
    const int swizzle = !kSwizzled ? 0 : kGroup == 8 ? row & 7 : row >> 1 & 3;
    return tile + static_cast<uint32_t>(row * kRowBytes + (piece ^ swizzle) * 16);
  }
};

template <typename Kernel>
struct AttentionCta : AttentionRows<Kernel> {
  using Rows = AttentionRows<Kernel>;
  using Rows::a, Rows::item, Rows::first_row, Rows::num_rows, Rows::q_tile, Rows::lane, Rows::warp,
      Rows::live_begin, Rows::live_end;
  using Rows::Is, Rows::PieceAt;
  using typename Rows::Mutant, typename Rows::Output, typename Rows::Scores;
  static constexpr int kHeadDim = Rows::kHeadDim, kKeys = Rows::kKeys, kGroup = Kernel::kGroup;
  static constexpr int kWarpKeys = kKeys / Kernel::kWarps, kLaneKeys = (kWarpKeys + 31) / 32;

  uint32_t cache_rows[kLaneKeys];

  __device__ uint32_t KeyStage(int tile) const {
    return q_tile + Kernel::kRows * Kernel::kRowBytes +
           tile % 2 * (Is(Mutant::kWrongStageStride) ? Kernel::kTileBytes / 2 : Kernel::kTileBytes);
  }
  __device__ uint32_t ValueStage(int tile) const { return KeyStage(tile) + 2 * Kernel::kTileBytes; }
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

  __device__ void LoadQueries() const {
    constexpr int kPieces = Kernel::kRowPieces;
    for (int i = static_cast<int>(threadIdx.x); i < Kernel::kRows * kPieces;
         i += Kernel::kThreads) {
      const int row = i / kPieces, piece = i % kPieces, r = first_row + row;
      const bool valid = r < num_rows;
      const int64_t offset =
          valid ? this->Token(r) * a.q_stride + this->Head(r) * kHeadDim + piece * 8 : 0;
      ptx::CopyAsync(PieceAt(q_tile, row, piece), a.q + offset, valid);
    }
  }
  // What StageRows has left.
  __device__ void StoreRows() const {
    constexpr int kPieces = Kernel::kRowPieces;
    for (int i = lane; i < 16 * kPieces; i += 32) {
      const int row = warp * 16 + i / kPieces, piece = i % kPieces, r = first_row + row;
      if (r >= num_rows && !Is(Mutant::kNoRowBound)) break;
      const uint4 v = ptx::LoadShared16(PieceAt(q_tile, row, piece));
      *reinterpret_cast<uint4*>(a.out + this->Token(r) * a.out_stride + this->Head(r) * kHeadDim +
                                piece * 8) = v;
    }
  }

  // The rows of the cache that hold the warp's share of a tile's keys, one to a lane; kNoRow for
  // zeros.
  // Looked up a tile ahead, and once for K and V.
  __device__ void LookUp(int tile) {
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      cache_rows[i] = this->CacheRow(tile * kKeys + warp * kWarpKeys + (lane + 32 * i) % kWarpKeys);
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
      const bool live = from != Rows::kNoRow;
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

  __device__ void Softmax(int tile, Scores& scores, float (&max)[2], float (&sum)[2],
                          Output& o) const {
    float rescale[2];
    this->Weigh(tile, scores, max, sum, rescale);
    Rows::Rescale(rescale, o);
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

  __device__ void Run() {
    this->Locate();
    const int begin = max(item.first_chunk * kChunk, live_begin) / kKeys;
    const int end = (min(item.end_chunk * kChunk, live_end) + kKeys - 1) / kKeys;

    Output o = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    [[maybe_unused]] typename Rows::Running running{};

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
      const bool sees = this->Sees(tile);
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
          Rows::AddUp(sum);
          this->FoldChunk(o, max, sum, running, false);
        }
      }
    }
    Rows::AddUp(sum);
    if (Kernel::kSplit && item.partial >= 0) {
      this->StorePartial(o, max, sum);
      return;
    }
    this->FoldChunk(o, max, sum, running, true);
    this->StageRows(o, running.max, running.sum);
    StoreRows();
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
    AttentionCta<Kernel>{{.a = a,
                          .item = item,
                          .kv_head = rest % a.num_kv_heads,
                          .first_row = first_row,
                          .q_tile = ptx::SharedAddress(shared)}}
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
