#include "tests/kernels/cuda/attention/attention_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_memory.h"

namespace trireme::cuda {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float Round(DType type, float x) {
  return type == DType::kBF16 ? BF16ToFloat(FloatToBF16(x)) : F16ToFloat(FloatToF16(x));
}

// Capacities beyond the counts, as a captured graph has them.
template <typename T>
std::vector<T> Padded(std::vector<T> items) {
  items.resize(items.size() + 2, T{-1, -1, -1, -1, -1, -1, -1});
  return items;
}

// Captures launch(stream), sets the counts only then, and runs the graph before and after that.
template <typename Launch>
cudaError_t RunCaptured(Launch launch, const DeviceArray<int32_t>& counts) {
  const std::vector<int32_t> real = counts.Read();
  Check(cudaMemset(counts.get(), 0, counts.size() * sizeof(int32_t)));
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Check(cudaStreamCreate(&stream));
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  Check(launch(stream));
  Check(cudaStreamEndCapture(stream, &graph));
  Check(cudaGraphInstantiate(&exec, graph, 0));
  Check(cudaGraphLaunch(exec, stream));
  Check(cudaStreamSynchronize(stream));
  Check(
      cudaMemcpy(counts.get(), real.data(), real.size() * sizeof(int32_t), cudaMemcpyHostToDevice));
  Check(cudaGraphLaunch(exec, stream));
  const cudaError_t error = cudaStreamSynchronize(stream);
  Check(cudaGraphExecDestroy(exec));
  Check(cudaGraphDestroy(graph));
  Check(cudaStreamDestroy(stream));
  return error;
}

}  // namespace

AttentionCase::AttentionCase(const AttentionCaseOptions& options) : options_(options) {
  std::mt19937_64 random(options.seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](int context, int heads) {
    std::vector<float> values(static_cast<size_t>(context) * heads * options.head_dim);
    for (float& v : values) v = Round(options.type, normal(random));
    return values;
  };
  for (const int context : options.contexts) {
    const int blocks = (context + options.block_size - 1) / options.block_size;
    sequences_.push_back({.q = fill(context, options.num_heads),
                          .k = fill(context, options.num_kv_heads),
                          .v = fill(context, options.num_kv_heads),
                          .blocks = std::vector<int32_t>(static_cast<size_t>(blocks))});
    table_stride_ = std::max(table_stride_, blocks + 1);
    num_blocks_ += blocks;
  }
  num_blocks_ += 1;  // one that belongs to nobody
  std::vector<int32_t> free(static_cast<size_t>(num_blocks_));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), random);
  for (Sequence& sequence : sequences_) {
    for (int32_t& block : sequence.blocks) {
      block = free.back();
      free.pop_back();
    }
  }
  for (int h = 0; h < options.num_heads; ++h) sinks_.push_back(normal(random) * 2);
}

AttentionParams AttentionCase::Params(const float* sinks) const {
  return {.num_heads = options_.num_heads,
          .scale = options_.scale > 0 ? options_.scale
                                      : 1.0f / std::sqrt(static_cast<float>(options_.head_dim)),
          .window = options_.window,
          .soft_cap = options_.soft_cap,
          .sinks = options_.sinks ? sinks : nullptr};
}

AttentionWork AttentionCase::Plan(const std::vector<Share>& shares) const {
  std::vector<QuerySlice> slices;
  int token = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    slices.push_back({static_cast<int>(i), token, shares[i].num_tokens, shares[i].first_position});
    token += shares[i].num_tokens;
  }
  return PlanAttention(slices, {options_.num_heads, options_.num_kv_heads, options_.head_dim,
                                options_.window, PrefillRows()});
}

std::vector<uint16_t> AttentionCase::Run(const std::vector<Share>& shares) const {
  std::vector<uint16_t> out;
  Check(TryRun(shares, &out));
  return out;
}

cudaError_t AttentionCase::TryRun(const std::vector<Share>& shares,
                                  std::vector<uint16_t>* result) const {
  const int dim = options_.head_dim, kv_heads = options_.num_kv_heads, size = options_.block_size;
  const int64_t block_stride = int64_t{kv_heads * size + 3} * dim;  // a gap, as of other layers
  const size_t kv_elements = static_cast<size_t>(num_blocks_ * block_stride);
  std::vector<float> k(kv_elements, kNan), v(kv_elements, kNan);
  std::vector<int32_t> tables(shares.size() * static_cast<size_t>(table_stride_), -1);
  const int q_row = options_.num_heads * dim, q_stride = q_row + 2 * kv_heads * dim;
  std::vector<float> qkv;
  int num_tokens = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const Sequence& sequence = sequences_[static_cast<size_t>(shares[i].sequence)];
    const int end = shares[i].first_position + shares[i].num_tokens;
    const int seen = options_.window > 0 ? shares[i].first_position - options_.window + 1 : 0;
    for (int p = std::max(seen, 0) / size * size; p < end; ++p) {
      const int32_t block = sequence.blocks[static_cast<size_t>(p / size)];
      tables[i * static_cast<size_t>(table_stride_) + static_cast<size_t>(p / size)] = block;
      for (int h = 0; h < kv_heads; ++h) {
        const size_t to = static_cast<size_t>(block * block_stride + (h * size + p % size) * dim);
        const size_t from = (static_cast<size_t>(p) * kv_heads + h) * dim;
        std::copy_n(sequence.k.begin() + from, dim, k.begin() + to);
        std::copy_n(sequence.v.begin() + from, dim, v.begin() + to);
      }
    }
    for (int p = shares[i].first_position; p < end; ++p) {
      qkv.insert(qkv.end(), sequence.q.begin() + p * q_row, sequence.q.begin() + (p + 1) * q_row);
      qkv.resize(qkv.size() + static_cast<size_t>(q_stride - q_row), kNan);
    }
    num_tokens += shares[i].num_tokens;
  }

  const AttentionWork plan = Plan(shares);
  const DeviceArray<uint16_t> device_k(Narrow(options_.type, k)),
      device_v(Narrow(options_.type, v)), q(Narrow(options_.type, qkv));
  const DeviceArray<uint16_t> out(static_cast<size_t>(num_tokens) * q_row);
  const DeviceArray<int32_t> device_tables(tables);
  const DeviceArray<AttentionItem> prefill(Padded(plan.prefill)), decode(Padded(plan.decode)),
      merge(Padded(plan.merge));
  const DeviceArray<int32_t> counts(std::vector<int32_t>{static_cast<int32_t>(plan.prefill.size()),
                                                         static_cast<int32_t>(plan.decode.size()),
                                                         static_cast<int32_t>(plan.merge.size())});
  const DeviceArray<float> partials(static_cast<size_t>(plan.partial_rows) * PartialRowBytes(dim) /
                                    sizeof(float));
  const DeviceArray<float> sinks(sinks_);
  const KvLayerView kv{.k = device_k.get(),
                       .v = device_v.get(),
                       .dtype = options_.type,
                       .num_kv_heads = kv_heads,
                       .block_size = size,
                       .head_dim = dim,
                       .block_stride = block_stride};
  // What this step has no work for is not launched, unless it was captured.
  const auto capacity = [&](const DeviceArray<AttentionItem>& items, size_t count) {
    return count == 0 && !options_.captured ? 0 : static_cast<int>(items.size());
  };
  const DeviceAttentionWork work{.prefill = prefill.get(),
                                 .decode = decode.get(),
                                 .merge = merge.get(),
                                 .counts = counts.get(),
                                 .max_prefill = capacity(prefill, plan.prefill.size()),
                                 .max_decode = capacity(decode, plan.decode.size()),
                                 .max_merge = capacity(merge, plan.merge.size()),
                                 .partials = partials.get()};
  const Batch batch{
      .num_tokens = num_tokens, .block_tables = device_tables.get(), .table_stride = table_stride_};
  const auto launch = [&](cudaStream_t stream) {
    return Attention(options_.type, Params(sinks.get()), kv, batch, work, q.get(), q_stride,
                     out.get(), q_row, stream);
  };
  cudaError_t error = options_.captured ? RunCaptured(launch, counts) : launch(nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error == cudaSuccess) *result = out.Read();
  return error;
}

std::vector<uint16_t> AttentionCase::RunInSteps(int sequence, const std::vector<int>& steps) const {
  std::vector<uint16_t> all;
  int position = 0;
  for (const int tokens : steps) {
    const std::vector<uint16_t> out = Run({{sequence, position, tokens}});
    all.insert(all.end(), out.begin(), out.end());
    position += tokens;
  }
  return all;
}

std::vector<double> AttentionCase::Plain(const Share& share) const {
  const Sequence& sequence = sequences_[static_cast<size_t>(share.sequence)];
  const AttentionParams params = Params(sinks_.data());
  const int dim = options_.head_dim, heads = options_.num_heads, kv_heads = options_.num_kv_heads;
  std::vector<double> result;
  for (int p = share.first_position; p < share.first_position + share.num_tokens; ++p) {
    for (int h = 0; h < heads; ++h) {
      const int kv_head = h / (heads / kv_heads);
      const float* q = &sequence.q[(static_cast<size_t>(p) * heads + h) * dim];
      const int first = options_.window > 0 ? std::max(0, p - options_.window + 1) : 0;
      std::vector<float> scores;
      float max = params.sinks != nullptr ? params.sinks[h] : -INFINITY;
      for (int key = first; key <= p; ++key) {
        const float* k = &sequence.k[(static_cast<size_t>(key) * kv_heads + kv_head) * dim];
        float score = std::inner_product(q, q + dim, k, 0.0f) * params.scale;
        if (params.soft_cap > 0) score = params.soft_cap * std::tanh(score / params.soft_cap);
        scores.push_back(score);
        max = std::max(max, score);
      }
      float sum = params.sinks != nullptr ? std::exp(params.sinks[h] - max) : 0;
      std::vector<float> out(static_cast<size_t>(dim));
      for (int key = first; key <= p; ++key) {
        const float weight = std::exp(scores[static_cast<size_t>(key - first)] - max);
        sum += weight;
        const float* v = &sequence.v[(static_cast<size_t>(key) * kv_heads + kv_head) * dim];
        for (size_t d = 0; d < out.size(); ++d) out[d] += Round(options_.type, weight) * v[d];
      }
      for (const float o : out) result.push_back(Round(options_.type, o / sum));
    }
  }
  return result;
}

double AttentionCase::Error(const std::vector<Share>& shares,
                            const std::vector<uint16_t>& out) const {
  const std::vector<float> got = Widen(options_.type, out);
  size_t at = 0;
  double error = 0, plain_error = 0, largest = 0;
  for (const Share& share : shares) {
    const Sequence& sequence = sequences_[static_cast<size_t>(share.sequence)];
    const int context = share.first_position + share.num_tokens;
    const int blocks = static_cast<int>(sequence.blocks.size());
    const size_t kv_row = static_cast<size_t>(options_.num_kv_heads) * options_.head_dim;
    const size_t elements = static_cast<size_t>(blocks) * options_.block_size * kv_row;
    std::vector<uint16_t> k(elements), v(elements);  // the CPU's layout, blocks in order
    const KvLayerView kv{k.data(),
                         v.data(),
                         options_.type,
                         options_.num_kv_heads,
                         options_.block_size,
                         options_.head_dim,
                         static_cast<int64_t>(kv_row) * options_.block_size};
    std::vector<BlockId> table(static_cast<size_t>(blocks));
    std::iota(table.begin(), table.end(), 0);
    for (int p = 0; p < context; ++p) {
      reference::StoreKv(kv, p / options_.block_size, p % options_.block_size,
                         &sequence.k[static_cast<size_t>(p) * kv_row],
                         &sequence.v[static_cast<size_t>(p) * kv_row]);
    }
    const int64_t q_row = int64_t{options_.num_heads} * options_.head_dim;
    std::vector<double> expected(static_cast<size_t>(share.num_tokens * q_row));
    reference::Attention(Params(sinks_.data()), kv, table, share.first_position, share.num_tokens,
                         &sequence.q[static_cast<size_t>(share.first_position * q_row)], q_row,
                         expected.data());
    const std::vector<double> plain = Plain(share);
    for (size_t i = 0; i < expected.size(); ++i, ++at) {
      if (std::isnan(got[at])) return std::numeric_limits<double>::infinity();
      error = std::max(error, std::fabs(double{got[at]} - expected[i]));
      plain_error = std::max(plain_error, std::fabs(plain[i] - expected[i]));
      largest = std::max(largest, std::fabs(expected[i]));
    }
  }
  const double ulp = std::ldexp(largest, options_.type == DType::kBF16 ? -8 : -11);
  return error / (2 * plain_error + ulp);
}

}  // namespace trireme::cuda
