// One CTA a row, no sort. A greedy row is read once; a filtered one three times: maximum, weights
// by bins, and the heaviest 4,096 tokens into shared memory, where thresholds are found by
// bisection. Rows whose filters need more tokens than that bisect over the row itself.
#include "kernels/cuda/sampling/sampling.h"

#include "kernels/cuda/sampling/select.cuh"

namespace trireme::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Philox4x32-10 (Salmon et al., 2011); 53 bits of it at the top, as the CPU sampler takes them.
__device__ uint64_t UniformAt(uint64_t seed, uint64_t position) {
  uint32_t c[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0];
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1];
    c[3] = static_cast<uint32_t>(a);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return (c[0] | static_cast<uint64_t>(c[1]) << 32) & ~uint64_t{0x7ff};
}

// Biases and bans, then penalties. What was there before stays in `raw`.
__device__ void Adjust(const SampleRow& row, float* logits) {
  for (int i = static_cast<int>(threadIdx.x); i < row.num_biases; i += kSampleThreads) {
    TokenBias& bias = row.biases[i];
    bias.raw = logits[bias.id];
    logits[bias.id] = bias.raw + bias.bias;
  }
  __syncthreads();
  const int num_seen = row.seen == nullptr ? 0 : *row.num_seen;
  for (int i = static_cast<int>(threadIdx.x); i < num_seen; i += kSampleThreads) {
    SeenToken& seen = row.seen[i];
    float logit = logits[seen.id];
    seen.raw = logit;
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (seen.output_count > 0) {
      logit -= __fadd_rn(row.presence_penalty,
                         __fmul_rn(row.frequency_penalty, static_cast<float>(seen.output_count)));
    }
    logits[seen.id] = logit;
  }
  __syncthreads();
}

// The logit of `token` before Adjust, and the token counted. By the threads that find it.
__device__ float CountAndFindRaw(const SampleRow& row, const float* logits, int token, float* raw) {
  if (threadIdx.x == 0) *raw = logits[token];
  __syncthreads();
  const int num_seen = row.seen == nullptr ? 0 : *row.num_seen;
  int found = 0;
  for (int i = static_cast<int>(threadIdx.x); i < num_seen; i += kSampleThreads) {
    if (row.seen[i].id != token) continue;
    *raw = row.seen[i].raw;
    ++row.seen[i].output_count;
    found = 1;
  }
  found = __syncthreads_or(found);
  if (threadIdx.x == 0 && row.seen != nullptr && found == 0) {
    row.seen[num_seen] = {token, 1, 0.0f};
    *row.num_seen = num_seen + 1;
  }
  for (int i = static_cast<int>(threadIdx.x); i < row.num_biases; i += kSampleThreads) {
    if (row.biases[i].id == token) *raw = row.biases[i].raw;
  }
  __syncthreads();
  return *raw;
}

// Log-sum-exp of the raw logits, and the best of them.
__device__ float LogprobsOfRaw(const Source& source, float max, int num_top, Scratch& scratch,
                               SampledRow* out) {
  const Weights weights = {max, kLog2E, 0.0f};
  const uint64_t total = Sum(source, scratch, [&](float logit, int) { return weights(logit); });
  const float log_sum = log2f(static_cast<float>(total) * 0x1p-44f) * kLn2;
  const int n = min(num_top, source.n);
  if (threadIdx.x == 0) out->num_top = n > 0 ? n : 0;
  if (n <= 0) return log_sum;
  const List list = Collect(source, weights, scratch);
  Source best_of = source;
  if (list.source.n >= n) best_of = list.source;
  uint64_t rank = ~uint64_t{0};
  for (int i = 0; i < n; ++i) {
    rank = Best(best_of, scratch, rank);
    if (threadIdx.x != 0) continue;
    const float logit = FromKey(static_cast<uint32_t>(rank >> 32));
    out->top[i] = {static_cast<int32_t>(~static_cast<uint32_t>(rank)), (logit - max) - log_sum};
  }
  return log_sum;
}

__device__ int DrawFiltered(const SampleRow& row, const Source& source, float max,
                            Scratch& scratch) {
  const auto weight = [](const Kept& kept, float logit, int id) { return kept.Weight(logit, id); };
  const auto count = [](const Kept& kept, float logit, int id) { return kept.Count(logit, id); };
  Kept kept{{max, fminf(kLog2E / row.temperature, 1e30f), row.min_p}};
  const auto sum_of = [&](const Source& from, auto f) {
    return Sum(from, scratch, [&](float logit, int id) { return f(kept, logit, id); });
  };
  const auto keep_head = [&](const Source& from, uint64_t enough, auto f) {
    const uint64_t last = LastOfHead(
        from, scratch, enough, max, [](float logit) { return logit; },
        [&](float logit, int id) { return f(kept, logit, id); });
    if (last > kept.last) kept.last = last;
  };
  Source from = source;
  uint64_t enough = 0;  // of top_p; 0: not known yet
  if (row.top_k > 0 || row.typical_p < 1 || row.top_p < 1 || row.min_p > 0) {
    const List list = Collect(source, kept.weights, scratch);
    if (list.complete) {
      from = list.source;
    } else if (row.top_k > 0) {
      if (sum_of(list.source, count) >= static_cast<uint64_t>(row.top_k)) from = list.source;
    } else if (row.typical_p == 1 && row.top_p < 1) {
      enough = ShareOf(sum_of(source, weight), row.top_p);
      if (sum_of(list.source, weight) >= enough) from = list.source;
    }
  }
  if (row.top_k > 0 && sum_of(from, count) > static_cast<uint64_t>(row.top_k)) {
    keep_head(from, static_cast<uint64_t>(row.top_k), count);
  }
  if (row.typical_p < 1) KeepTypical(from, row.typical_p, scratch, &kept);
  if (row.top_p < 1) {
    if (enough == 0) enough = ShareOf(sum_of(from, weight), row.top_p);
    keep_head(from, enough, weight);
  }
  return Draw(from, kept, UniformAt(row.seed, row.position), scratch);
}

__global__ void __launch_bounds__(kSampleThreads)
    SampleRows(float* all_logits, int64_t stride, int vocab_size, const SampleRow* rows,
               SampledRow* all_out, int32_t* tokens) {
  __shared__ Scratch scratch;
  __shared__ float raw;
  const SampleRow row = rows[blockIdx.x];
  if (!row.active) return;
  float* const logits = all_logits + blockIdx.x * stride;
  SampledRow* const out = all_out + blockIdx.x;
  const auto end = [&](int token, SampleStatus status) {
    if (threadIdx.x != 0) return;
    out->token = tokens[blockIdx.x] = token;
    out->status = status;
  };

  Source source = {logits, nullptr, nullptr, vocab_size};
  uint64_t best = Best(source, scratch, ~uint64_t{0});
  const auto key = [&] { return static_cast<uint32_t>(best >> 32); };
  if (key() >= kInfinityKey || key() <= kMinusInfinityKey) {
    return end(0, SampleStatus::kNotNumbers);
  }
  const float raw_max = FromKey(key());
  float log_sum = 0;
  if (row.num_top >= 0) log_sum = LogprobsOfRaw(source, raw_max, row.num_top, scratch, out);
  if (row.given >= 0) {
    if (threadIdx.x == 0) out->logprob = (logits[row.given] - raw_max) - log_sum;
    return end(row.given, SampleStatus::kOk);
  }

  if (row.num_biases > 0 || row.seen != nullptr || row.allowed != nullptr) {
    Adjust(row, logits);
    source.allowed = row.allowed;
    best = Best(source, scratch, ~uint64_t{0});
    if (key() >= kInfinityKey) return end(0, SampleStatus::kNotNumbers);
    if (key() <= kMinusInfinityKey) return end(0, SampleStatus::kNothingLeft);
  }
  const int token = row.temperature == 0 ? static_cast<int>(~static_cast<uint32_t>(best))
                                         : DrawFiltered(row, source, FromKey(key()), scratch);
  const float logit = CountAndFindRaw(row, logits, token, &raw);
  if (threadIdx.x == 0) out->logprob = (logit - raw_max) - log_sum;
  end(token, SampleStatus::kOk);
}

}  // namespace

cudaError_t Sample(float* logits, int64_t stride, int vocab_size, const SampleRow* rows,
                   int64_t num_rows, SampledRow* out, int32_t* tokens, cudaStream_t stream) {
  if (num_rows == 0) return cudaSuccess;
  SampleRows<<<static_cast<unsigned>(num_rows), kSampleThreads, 0, stream>>>(
      logits, stride, vocab_size, rows, out, tokens);
  return cudaGetLastError();
}

}  // namespace trireme::cuda
