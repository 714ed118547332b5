// A CTA a token, a group of lanes a head, 16 bytes a lane. The sines and cosines of a position are
// computed once and serve all heads.
#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/primitives/block_sum.cuh"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kMaxHeadDim = 256;

struct Params {
  DeviceRope rope;
  QkNorm norm;
  KvLayerView kv;
  Batch batch;
  uint4* qkv;
  int num_heads, head_dim;
  uint32_t block_rows;  // of head_dim, from a block of the cache to the next
};

// What belongs to the elements of a head, in shared memory: element e lies at [e % 8][e / 8]. Rows
// of 36, so that neither lanes with neighbouring elements nor lanes with the same element of
// neighbouring chunks meet bank conflicts.
using OfElements = float[kChunkElements][kMaxHeadDim / kChunkElements + 4];
__device__ float& At(OfElements& values, int element) {
  return values[element % kChunkElements][element / kChunkElements];
}

// An element becomes x cos + partner sin, the sine with the sign of its side; cos is 1 and sin is 0
// beyond rotary_dim.
struct Shared {
  OfElements cos, sin, q_gain, k_gain;
  OfElements partners[kWarps];
};

__device__ void Prepare(const Params& p, int position, Shared& shared) {
  const int element = static_cast<int>(threadIdx.x), half = p.rope.rotary_dim / 2;
  if (element >= p.head_dim) return;
  float cos = 1, sin = 0;
  if (element < p.rope.rotary_dim) {
    const bool second = p.rope.interleaved ? element % 2 == 1 : element >= half;
    const int pair = p.rope.interleaved ? element / 2 : element - (second ? half : 0);
    // Whole revolutions fall out of the 64 bits.
    const uint64_t turns = static_cast<uint64_t>(position) * p.rope.turns[pair];
    sincospif(static_cast<float>(static_cast<int32_t>(turns >> 32)) * 0x1p-31f, &sin, &cos);
    cos *= p.rope.magnitude;
    sin *= second ? p.rope.magnitude : -p.rope.magnitude;
  }
  At(shared.cos, element) = cos;
  At(shared.sin, element) = sin;
  if (p.norm.q_gain == nullptr) return;
  At(shared.q_gain, element) = p.norm.q_gain[element];
  At(shared.k_gain, element) = p.norm.k_gain[element];
}

// kLanes hold a head, eight elements each; those beyond its end hold zeros.
template <int kLanes>
__device__ void NormalizeHead(int head_dim, float eps, const OfElements& gain, int lane,
                              float (&x)[kChunkElements]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChunkElements; ++i) sum = fmaf(x[i], x[i], sum);
  const float scale = rsqrtf(WarpSum<kLanes>(sum) / static_cast<float>(head_dim) + eps);
  if (lane * kChunkElements >= head_dim) return;
#pragma unroll
  for (int i = 0; i < kChunkElements; ++i) x[i] = x[i] * scale * gain[i][lane];
}

template <int kLanes>
__device__ void RotateHead(const DeviceRope& rope, Shared& shared, int lane,
                           const float (&cos)[kChunkElements], const float (&sin)[kChunkElements],
                           float (&x)[kChunkElements]) {
  float partner[kChunkElements];
  if (rope.interleaved) {
#pragma unroll
    for (int i = 0; i < kChunkElements; ++i) partner[i] = x[i ^ 1];
  } else {
    OfElements& heads = shared.partners[threadIdx.x / 32];
    const int column = static_cast<int>(threadIdx.x) % 32 - lane;  // of the group's first lane
    const int half = rope.rotary_dim / 2;
    __syncwarp();  // the heads before have been read
#pragma unroll
    for (int i = 0; i < kChunkElements; ++i) heads[i][column + lane] = x[i];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kChunkElements; ++i) {
      const int element = lane * kChunkElements + i;
      int other = element;  // beyond rotary_dim
      if (element < rope.rotary_dim) other = element < half ? element + half : element - half;
      partner[i] = heads[other % kChunkElements][column + other / kChunkElements];
    }
  }
#pragma unroll
  for (int i = 0; i < kChunkElements; ++i) x[i] = fmaf(x[i], cos[i], partner[i] * sin[i]);
}

// kLanes: the smallest power of two that holds a head.
template <DType kType, int kLanes>
__global__ void __launch_bounds__(kThreads) RopeToken(const __grid_constant__ Params p) {
  __shared__ Shared shared;
  const int position = p.batch.positions[blockIdx.x];
  if (position < 0) return;
  Prepare(p, position, shared);
  __syncthreads();

  const int chunks = p.head_dim / kChunkElements, lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool in_head = lane < chunks;
  float cos[kChunkElements], sin[kChunkElements];
#pragma unroll
  for (int i = 0; i < kChunkElements; ++i) {
    cos[i] = in_head ? shared.cos[i][lane] : 0.0f;
    sin[i] = in_head ? shared.sin[i][lane] : 0.0f;
  }
  const int64_t table = int64_t{p.batch.sequence_of[blockIdx.x]} * p.batch.table_stride;
  const uint32_t block = p.batch.block_tables[table + position / p.kv.block_size];
  const uint32_t cache_row = block * p.block_rows + position % p.kv.block_size;
  const int num_kv_heads = p.kv.num_kv_heads, first_v = p.num_heads + num_kv_heads;
  const int all_heads = first_v + num_kv_heads;
  uint4* const row = p.qkv + int64_t{blockIdx.x} * all_heads * chunks;
  // Warps stay whole: lanes without a head or a chunk compute on zeros.
  for (int first = static_cast<int>(threadIdx.x) / 32 * (32 / kLanes); first < all_heads;
       first += kThreads / kLanes) {
    const int head = first + static_cast<int>(threadIdx.x) % 32 / kLanes;
    const bool live = in_head && head < all_heads;
    uint4* const here = row + head * chunks + lane;
    uint4 chunk = live ? *here : uint4{0, 0, 0, 0};
    if (first < first_v) {  // some head of the warp is one of q or k
      float x[kChunkElements];
      UnpackChunk<kType>(chunk, x);
      if (p.norm.q_gain != nullptr) {
        NormalizeHead<kLanes>(p.head_dim, p.norm.eps,
                              head < p.num_heads ? shared.q_gain : shared.k_gain, lane, x);
      }
      RotateHead<kLanes>(p.rope, shared, lane, cos, sin, x);
      if (head < first_v) chunk = PackChunk<kType>(x);
    }
    if (!live) continue;
    if (head < p.num_heads) {
      *here = chunk;
    } else {
      const bool is_v = head >= first_v;
      const int kv_head = head - (is_v ? first_v : p.num_heads);
      uint4* const cache = static_cast<uint4*>(is_v ? p.kv.v : p.kv.k);
      cache[uint64_t{cache_row + kv_head * p.kv.block_size} * chunks + lane] = chunk;
    }
  }
}

}  // namespace

cudaError_t RopeAndStoreKv(DType type, const DeviceRope& rope, const QkNorm& norm, int num_heads,
                           const KvLayerView& kv, const Batch& batch, void* qkv,
                           cudaStream_t stream) {
  if (batch.num_tokens == 0) return cudaSuccess;
  const Params params = {rope,
                         norm,
                         kv,
                         batch,
                         static_cast<uint4*>(qkv),
                         num_heads,
                         kv.head_dim,
                         static_cast<uint32_t>(kv.block_stride / kv.head_dim)};
  return WithElements(type, [&](auto element) {
    const auto launch = [&](auto lanes) {
      RopeToken<decltype(element)::value, decltype(lanes)::value>
          <<<static_cast<unsigned>(batch.num_tokens), kThreads, 0, stream>>>(params);
    };
    if (kv.head_dim <= 8 * kChunkElements) {
      launch(std::integral_constant<int, 8>());
    } else if (kv.head_dim <= 16 * kChunkElements) {
      launch(std::integral_constant<int, 16>());
    } else {
      launch(std::integral_constant<int, 32>());
    }
  });
}

}  // namespace trireme::cuda
