// One CTA computes kRowTile rows of one KV head: a row is a query token and one of the group's
// heads. Four warps of 16 rows each; keys and values pass through two stages of shared memory.
//
//   row r of the sequence = token r / group, head r % group of the group
//   shared: Q [64][128] | stage 0: K [64][128], V [64][128] | stage 1: ...   (bf16)
//   16-byte chunk c of a row lies at chunk c ^ (row & 7): eight rows of a matrix hit all banks
#pragma once

#include "tests/gpusim/kernels/attention.h"
#include "kernels/cuda/primitives/ptx.cuh"

inline constexpr int kRowBytes = kHeadDim * 2;
inline constexpr int kRowChunks = kRowBytes / 16;
inline constexpr int kTileBytes = kKeyTile * kRowBytes;

template <AttentionMutant mutant>
__device__ inline uint32_t ChunkAt(uint32_t tile, int row, int chunk) {
  const int place = mutant == AttentionMutant::kNoSwizzle ? chunk : chunk ^ (row & 7);
  return tile + static_cast<uint32_t>(row * kRowBytes + place * 16);
}

// The running softmax of a thread's two rows (lane / 4 and 8 below) over its columns, and their
// part of the output: o[n][2 i + j] is row i, column 8 n + 2 (lane % 4) + j.
struct RowState {
  float o[kHeadDim / 8][4];
  float max[2];
  float sum[2];  // of this thread's columns only, until the end
};

template <AttentionMutant mutant>
struct Attention {
  const AttentionParams& p;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = static_cast<int>(blockIdx.x) * kRowTile;
  const int kv_head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const int rows = p.q_len * p.group, kv_len = p.kv_lens[sequence];
  uint32_t q_tile;

  __device__ size_t RowOffset(int row) const {  // in q and out, elements
    const size_t token = static_cast<size_t>(sequence) * p.q_len + row / p.group;
    return ((token * p.kv_heads + kv_head) * p.group + row % p.group) * kHeadDim;
  }
  __device__ uint32_t Stage(int tile) const {
    constexpr int kStride =
        mutant == AttentionMutant::kWrongStageStride ? kTileBytes : 2 * kTileBytes;
    return q_tile + kRowTile * kRowBytes + static_cast<uint32_t>(tile % 2 * kStride);
  }
  // The last key that a row may look at.
  __device__ int LastKey(int row) const { return kv_len - p.q_len + row / p.group; }

  __device__ void LoadQueries() const {
    for (int i = static_cast<int>(threadIdx.x); i < kRowTile * kRowChunks; i += kAttentionThreads) {
      const int row = i / kRowChunks, chunk = i % kRowChunks;
      const bool valid = first_row + row < rows;
      const auto* from = p.q + (valid ? RowOffset(first_row + row) + chunk * 8 : 0);
      ptx::CopyAsync(ChunkAt<mutant>(q_tile, row, chunk), from, valid);
    }
  }

  __device__ void LoadTile(int tile) const {
    const uint32_t keys = Stage(tile), values = keys + kTileBytes;
    for (int i = static_cast<int>(threadIdx.x); i < kKeyTile * kRowChunks; i += kAttentionThreads) {
      const int row = i / kRowChunks, chunk = i % kRowChunks, key = tile * kKeyTile + row;
      const bool inside = key < kv_len;
      const bool valid = inside || mutant == AttentionMutant::kNoZeroFill;
      size_t offset = 0;
      if (valid) {
        const int entry = inside ? key / kPageTokens : (kv_len - 1) / kPageTokens;
        const int page =
            p.page_table[sequence * p.max_pages + entry +
                         (mutant == AttentionMutant::kPageOutOfBounds ? p.max_pages : 0)];
        offset =
            ((static_cast<size_t>(page) * kPageTokens + key % kPageTokens) * p.kv_heads + kv_head) *
                kHeadDim +
            chunk * 8;
      }
      const uint32_t skew = mutant == AttentionMutant::kMisalignedCopy ? 8 : 0;
      ptx::CopyAsync(ChunkAt<mutant>(keys, row, chunk) + skew, p.k_cache + offset, valid);
      ptx::CopyAsync(ChunkAt<mutant>(values, row, chunk), p.v_cache + offset, valid);
    }
  }

  // scores[n]: 16 rows x keys 8 n ... of the tile.
  __device__ void Scores(uint32_t keys, float (&scores)[kKeyTile / 8][4]) const {
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      uint32_t a[4];
      ptx::LoadMatrices(a, ChunkAt<mutant>(q_tile, warp * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int n = 0; n < kKeyTile / 16; ++n) {
        uint32_t b[4];
        const int row = mutant == AttentionMutant::kSwappedFragments
                            ? n * 16 + lane % 16
                            : n * 16 + lane % 8 + lane / 16 * 8;
        ptx::LoadMatrices(b, ChunkAt<mutant>(keys, row, 2 * k + lane / 8 % 2));
        ptx::MultiplyAdd(scores[2 * n], a, b[0], b[1]);
        ptx::MultiplyAdd(scores[2 * n + 1], a, b[2], b[3]);
      }
    }
  }

  // Turns scores into weights relative to the rows' new maximum.
  __device__ void Softmax(int tile, float (&scores)[kKeyTile / 8][4], RowState* state) const {
    constexpr unsigned kLanes = mutant == AttentionMutant::kShuffleMask ? 0x7fffffffu : ~0u;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + warp * 16 + lane / 4 + 8 * i;
      const int last = LastKey(row) + (mutant == AttentionMutant::kMaskOffByOne ? 1 : 0);
      float most = state->max[i];
#pragma unroll
      for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int key = tile * kKeyTile + n * 8 + lane % 4 * 2 + j;
          float& score = scores[n][2 * i + j];
          score = key <= last && key < kv_len ? score * p.scale_log2 : -INFINITY;
          most = fmaxf(most, score);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(kLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kLanes, most, 2));
      const float base = most == -INFINITY ? 0.0f : most;  // a row without any key yet
      const float rescale =
          mutant == AttentionMutant::kNoRescale ? 1.0f : ptx::Exp2(state->max[i] - base);
      state->max[i] = most;
      float sum = state->sum[i] * rescale;
#pragma unroll
      for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * i + j];
          score = ptx::Exp2(score - base);
          sum += score;
        }
      }
      state->sum[i] = sum;
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
        state->o[n][2 * i] *= rescale;
        state->o[n][2 * i + 1] *= rescale;
      }
    }
  }

  __device__ void AddValues(uint32_t values, const float (&weights)[kKeyTile / 8][4],
                            RowState* state) const {
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; ++k) {
      const float(&low)[4] = weights[2 * k];
      const float(&high)[4] = weights[2 * k + 1];
      const uint32_t a[4] = {ptx::PackBf16(low[0], low[1]), ptx::PackBf16(low[2], low[3]),
                             ptx::PackBf16(high[0], high[1]), ptx::PackBf16(high[2], high[3])};
#pragma unroll
      for (int n = 0; n < kHeadDim / 16; ++n) {
        uint32_t b[4];
        ptx::LoadMatricesTransposed(b,
                                    ChunkAt<mutant>(values, k * 16 + lane % 16, 2 * n + lane / 16));
        ptx::MultiplyAdd(state->o[2 * n], a, b[0], b[1]);
        ptx::MultiplyAdd(state->o[2 * n + 1], a, b[2], b[3]);
      }
    }
  }

  // Through the warp's own rows of the query tile, so that rows are stored 16 bytes a lane.
  __device__ void StoreRows(RowState* state) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = state->sum[i];
      sum += __shfl_xor_sync(~0u, sum, 1);
      if (mutant != AttentionMutant::kHalfReduction) sum += __shfl_xor_sync(~0u, sum, 2);
      const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
      const int row = warp * 16 + lane / 4 + 8 * i;
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
        const uint32_t both =
            ptx::PackBf16(state->o[n][2 * i] * inverse, state->o[n][2 * i + 1] * inverse);
        const uint32_t to = ChunkAt<mutant>(q_tile, row, n) + static_cast<uint32_t>(lane % 4 * 4);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(both) : "memory");
      }
    }
    if (mutant != AttentionMutant::kNoWarpBarrier) __syncwarp();
    for (int i = lane; i < 16 * kRowChunks; i += 32) {
      const int row = warp * 16 + i / kRowChunks, chunk = i % kRowChunks;
      uint4 v;
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "r"(ChunkAt<mutant>(q_tile, row, chunk))
                   : "memory");
      if (first_row + row < rows || mutant == AttentionMutant::kNoRowBound) {
        *reinterpret_cast<uint4*>(p.out + RowOffset(first_row + row) + chunk * 8) = v;
      }
    }
  }

  __device__ void Barrier() const {
    if (mutant == AttentionMutant::kWarpSkipsBarrier && warp == 3) return;
    __syncthreads();
  }

  __device__ void Run() const {
    const int last_row = min(first_row + kRowTile, rows) - 1;
    int tiles = LastKey(last_row) / kKeyTile + 1;
    if (mutant == AttentionMutant::kNoCausalTile && tiles > 1) --tiles;
    RowState state;
    if (mutant != AttentionMutant::kUninitialisedAccumulator) {
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) state.o[n][j] = 0.0f;
      }
    }
    state.max[0] = state.max[1] = -INFINITY;
    state.sum[0] = state.sum[1] = 0.0f;
    LoadQueries();
    LoadTile(0);
    if (mutant != AttentionMutant::kNoCommit) ptx::CommitCopies();
    for (int tile = 0; tile < tiles; ++tile) {
      if (tile + 1 < tiles) LoadTile(tile + 1);
      if (mutant != AttentionMutant::kNoCommit) ptx::CommitCopies();
      ptx::WaitCopies<mutant == AttentionMutant::kLaxWait ? 2 : 1>();
      if (mutant != AttentionMutant::kNoBarrierAfterWait) Barrier();
      float scores[kKeyTile / 8][4] = {};
      Scores(Stage(tile), scores);
      Softmax(tile, scores, &state);
      AddValues(Stage(tile) + kTileBytes, scores, &state);
      if (mutant != AttentionMutant::kNoBarrierBeforeLoad) Barrier();
    }
    StoreRows(&state);
  }
};

template <AttentionMutant mutant>
__global__ void __launch_bounds__(kAttentionThreads)
    PagedAttention(const __grid_constant__ AttentionParams params) {
  extern __shared__ __align__(128) char shared[];
  Attention<mutant>{.p = params, .q_tile = ptx::SharedAddress(shared)}.Run();
}

template <AttentionMutant mutant>
cudaError_t LaunchAttentionKernel(const AttentionParams& params, int batch, cudaStream_t stream) {
  const unsigned shared = mutant == AttentionMutant::kTooLittleShared
                              ? kAttentionSharedBytes - kTileBytes
                              : kAttentionSharedBytes;
  const cudaError_t error =
      cudaFuncSetAttribute(PagedAttention<mutant>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  const int tiles = (params.q_len * params.group + kRowTile - 1) / kRowTile;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(params.kv_heads),
                  static_cast<unsigned>(batch));
  PagedAttention<mutant><<<grid, kAttentionThreads, shared, stream>>>(params);
  return cudaGetLastError();
}
