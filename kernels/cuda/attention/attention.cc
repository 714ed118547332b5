#include "kernels/cuda/attention/attention.h"

#include <bit>

#include "kernels/cuda/attention/launch.h"
#include "kernels/cuda/primitives/device.h"

namespace trireme::cuda {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

cudaError_t Launch(int head_dim, const AttentionLaunch& launch, const AttentionArguments& a) {
  switch (head_dim) {
    case 64:
      return LaunchAttention64(launch, a);
    case 96:
      return LaunchAttention96(launch, a);
    case 128:
      return LaunchAttention128(launch, a);
    case 256:
      return LaunchAttention256(launch, a);
  }
  return cudaErrorInvalidValue;
}

cudaError_t LaunchHopper(int head_dim, const AttentionLaunch& launch, const AttentionArguments& a) {
  switch (head_dim) {
    case 64:
      return LaunchHopperAttention64(launch, a);
    case 96:
      return LaunchHopperAttention96(launch, a);
    case 128:
      return LaunchHopperAttention128(launch, a);
    case 256:
      return LaunchHopperAttention256(launch, a);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int PrefillRows() {
  return DeviceAttribute<cudaDevAttrComputeCapabilityMajor>() == 9 ? kHopperPrefillRows
                                                                   : kPrefillRows;
}

cudaError_t Attention(DType type, const AttentionParams& params, const KvLayerView& kv,
                      const Batch& batch, const DeviceAttentionWork& work, const void* q,
                      int64_t q_stride, void* out, int64_t out_stride, cudaStream_t stream) {
  AttentionArguments a{};
  a.k = static_cast<const uint16_t*>(kv.k);
  a.v = static_cast<const uint16_t*>(kv.v);
  a.block_tables = batch.block_tables;
  a.table_stride = batch.table_stride;
  a.q = static_cast<const uint16_t*>(q);
  a.q_stride = q_stride;
  a.out = static_cast<uint16_t*>(out);
  a.out_stride = out_stride;
  a.partials = work.partials;
  a.sinks = params.sinks;
  a.num_heads = params.num_heads;
  a.num_kv_heads = kv.num_kv_heads;
  a.group = params.num_heads / kv.num_kv_heads;
  a.block_shift = std::countr_zero(static_cast<unsigned>(kv.block_size));
  a.block_rows = static_cast<uint32_t>(kv.block_stride / kv.head_dim);
  a.window = params.window;
  const bool soft_cap = params.soft_cap > 0;
  a.cap_scale = soft_cap ? params.scale / params.soft_cap * 2 * kLog2E : 0;
  a.scale_log2 = (soft_cap ? params.soft_cap : params.scale) * kLog2E;

  AttentionLaunch launch{.type = type, .soft_cap = soft_cap, .num_sms = NumSms(), .stream = stream};
  cudaError_t error = cudaSuccess;
  if (work.max_prefill > 0) {
    launch.max_items = work.max_prefill;
    a.items = work.prefill;
    a.count = work.counts;
    const int rows = PrefillRows();
    a.row_tiles = static_cast<int>(CeilDiv(a.group, rows));
    error = (rows == kHopperPrefillRows ? LaunchHopper : Launch)(kv.head_dim, launch, a);
  }
  if (error == cudaSuccess && work.max_decode > 0) {
    launch.decode = true;
    launch.max_items = work.max_decode;
    a.items = work.decode;
    a.count = work.counts + 1;
    a.row_tiles = static_cast<int>(CeilDiv(a.group, kWarpRows));
    error = Launch(kv.head_dim, launch, a);
  }
  if (error == cudaSuccess && work.max_merge > 0) {
    launch.max_items = work.max_merge;
    a.items = work.merge;
    a.count = work.counts + 2;
    error = LaunchMerge(launch, kv.head_dim, a);
  }
  return error;
}

}  // namespace trireme::cuda
