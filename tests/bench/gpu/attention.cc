#include "tests/bench/gpu/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trireme::bench {
namespace {

using cuda::AttentionItem;

cuda::AttentionWork Plan(const AttentionShape& shape) {
  std::vector<cuda::QuerySlice> slices;
  for (int i = 0; i < shape.sequences; ++i) {
    slices.push_back({i, i * shape.tokens, shape.tokens, shape.context - shape.tokens});
  }
  return cuda::PlanAttention(slices, {shape.num_heads, shape.num_kv_heads, shape.head_dim, 0});
}

size_t Bytes(const std::vector<AttentionItem>& items) {
  return std::max<size_t>(1, items.size()) * sizeof(AttentionItem);
}

}  // namespace

AttentionCall::AttentionCall(const AttentionShape& shape)
    : shape_(shape),
      blocks_((shape.context + kBlockSize - 1) / kBlockSize),
      tokens_(int64_t{shape.sequences} * shape.tokens),
      work_(Plan(shape)),
      k_(static_cast<size_t>(shape.sequences * blocks_ * kBlockSize * shape.num_kv_heads *
                             shape.head_dim * 2)),
      v_(static_cast<size_t>(shape.sequences * blocks_ * kBlockSize * shape.num_kv_heads *
                             shape.head_dim * 2)),
      q_(static_cast<size_t>(tokens_ * shape.num_heads * shape.head_dim * 2)),
      out_(static_cast<size_t>(tokens_ * shape.num_heads * shape.head_dim * 2)),
      tables_(static_cast<size_t>(shape.sequences * blocks_) * sizeof(int32_t)),
      counts_(3 * sizeof(int32_t)),
      prefill_(Bytes(work_.prefill)),
      decode_(Bytes(work_.decode)),
      merge_(Bytes(work_.merge)),
      partials_(static_cast<size_t>(std::max<int64_t>(1, work_.partial_rows)) *
                cuda::PartialRowBytes(shape.head_dim)) {
  const auto kv = static_cast<size_t>(shape.sequences * blocks_ * kBlockSize * shape.num_kv_heads *
                                      shape.head_dim);
  const auto q = static_cast<size_t>(tokens_ * shape.num_heads * shape.head_dim);
  k_.Fill(RandomBf16(kv, 1).data(), kv * 2);
  v_.Fill(RandomBf16(kv, 2).data(), kv * 2);
  q_.Fill(RandomBf16(q, 3).data(), q * 2);
  std::vector<int32_t> table(static_cast<size_t>(shape.sequences * blocks_));
  std::iota(table.begin(), table.end(), 0);
  tables_.Fill(table.data(), table.size() * sizeof(int32_t));
  const int32_t counts[] = {static_cast<int32_t>(work_.prefill.size()),
                            static_cast<int32_t>(work_.decode.size()),
                            static_cast<int32_t>(work_.merge.size())};
  counts_.Fill(counts, sizeof(counts));
  prefill_.Fill(work_.prefill.data(), work_.prefill.size() * sizeof(AttentionItem));
  decode_.Fill(work_.decode.data(), work_.decode.size() * sizeof(AttentionItem));
  merge_.Fill(work_.merge.data(), work_.merge.size() * sizeof(AttentionItem));
}

void AttentionCall::operator()() const {
  AttentionParams params;
  params.num_heads = shape_.num_heads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const KvLayerView kv{.k = k_.get(),
                       .v = v_.get(),
                       .dtype = DType::kBF16,
                       .num_kv_heads = shape_.num_kv_heads,
                       .block_size = kBlockSize,
                       .head_dim = shape_.head_dim,
                       .block_stride = int64_t{kBlockSize} * shape_.num_kv_heads * shape_.head_dim};
  cuda::Batch batch;
  batch.num_tokens = static_cast<int>(tokens_);
  batch.block_tables = tables_.as<int32_t>();
  batch.table_stride = static_cast<int>(blocks_);
  const cuda::DeviceAttentionWork work{.prefill = prefill_.as<AttentionItem>(),
                                       .decode = decode_.as<AttentionItem>(),
                                       .merge = merge_.as<AttentionItem>(),
                                       .counts = counts_.as<int32_t>(),
                                       .max_prefill = static_cast<int>(work_.prefill.size()),
                                       .max_decode = static_cast<int>(work_.decode.size()),
                                       .max_merge = static_cast<int>(work_.merge.size()),
                                       .partials = partials_.as<float>()};
  const int64_t stride = int64_t{shape_.num_heads} * shape_.head_dim;
  Check(cuda::Attention(DType::kBF16, params, kv, batch, work, q_.get(), stride, out_.get(), stride,
                        nullptr),
        "attention");
}

double AttentionCall::flops() const {
  // Pairs of a query and a position that it sees.
  const double pairs = static_cast<double>(tokens_) *
                       (static_cast<double>(shape_.context) - (shape_.tokens - 1) / 2.0);
  return 4.0 * pairs * shape_.num_heads * shape_.head_dim;
}

double AttentionCall::bytes() const {
  const double kv = 2.0 * shape_.sequences * static_cast<double>(shape_.context) *
                    shape_.num_kv_heads * shape_.head_dim * 2;
  return kv + 2.0 * static_cast<double>(tokens_) * shape_.num_heads * shape_.head_dim * 2;
}

std::vector<uint16_t> AttentionCall::Output() const {
  std::vector<uint16_t> row(static_cast<size_t>(shape_.num_heads * shape_.head_dim));
  Check(cudaMemcpy(row.data(), out_.get(), row.size() * 2, cudaMemcpyDeviceToHost), "reading");
  return row;
}

}  // namespace trireme::bench
