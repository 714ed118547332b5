#include "runtime/backend/cuda_sampling.h"

#include <algorithm>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme {
namespace {

constexpr int64_t kColumns = 4;  // the kernel reads rows by so many
// Room for what requests bring beside numbers. What has none is sampled on the host.
constexpr size_t kMaxBiases = size_t{64} << 10, kMaxSeen = size_t{512} << 10;

SampleOutcome::Kind KindOf(cuda::SampleStatus status) {
  switch (status) {
    case cuda::SampleStatus::kOk:
      return SampleOutcome::Kind::kToken;
    case cuda::SampleStatus::kNotNumbers:
      return SampleOutcome::Kind::kNotNumbers;
    case cuda::SampleStatus::kNothingLeft:
      return SampleOutcome::Kind::kNothingLeft;
  }
  TRIREME_CHECK(false);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceSampler>> DeviceSampler::Create(int max_rows,
                                                                     int64_t columns) {
  std::unique_ptr<DeviceSampler> sampler(new DeviceSampler(max_rows));
  const auto rows = static_cast<size_t>(max_rows);
  columns = (columns + kColumns - 1) / kColumns * kColumns;
  TRIREME_ASSIGN_OR_RETURN(sampler->logits_memory_,
                           AllocateDevice(rows * static_cast<size_t>(columns) * sizeof(float)));
  sampler->logits_ = {sampler->logits_memory_->data(), DType::kF32, max_rows, columns};
  TRIREME_RETURN_IF_ERROR(sampler->staged_.Allocate([rows](ArrayPlacer* placer, Arrays* arrays) {
    placer->Place(rows, &arrays->rows);
    placer->Place(rows, &arrays->num_seen);
    placer->Place(kMaxBiases, &arrays->biases);
    placer->Place(kMaxSeen, &arrays->seen);
  }));
  TRIREME_ASSIGN_OR_RETURN(sampler->tokens_, AllocateDevice(rows * sizeof(int32_t)));
  // Written by the device across the bus: some bytes a row.
  TRIREME_ASSIGN_OR_RETURN(sampler->results_, AllocatePinned(rows * sizeof(cuda::SampledRow)));
  sampler->top_.resize(rows * cuda::kMaxTopLogprobs);
  return sampler;
}

bool DeviceSampler::Place(const SampleRequest& request, size_t row) {
  if (request.on_host || request.num_top > cuda::kMaxTopLogprobs) return false;
  // The kernel counts the token that it chooses: room for one more.
  const size_t seen = request.penalties ? request.seen.size() + 1 : 0;
  if (request.biases.size() > kMaxBiases - num_biases_ || seen > kMaxSeen - num_seen_) return false;

  cuda::SampleRow& out = staged_.host.rows[row];
  out.active = true;
  out.temperature = request.temperature;
  out.top_p = request.top_p;
  out.min_p = request.min_p;
  out.typical_p = request.typical_p;
  out.top_k = request.top_k;
  out.repetition_penalty = request.repetition_penalty;
  out.presence_penalty = request.presence_penalty;
  out.frequency_penalty = request.frequency_penalty;
  out.seed = request.seed;
  out.position = request.position;
  out.num_top = request.num_top;
  out.given = request.given;
  if (!request.biases.empty()) {
    out.biases = staged_.device.biases + num_biases_;
    out.num_biases = static_cast<int32_t>(request.biases.size());
    for (const TokenBias& bias : request.biases) {
      staged_.host.biases[num_biases_++] = {bias.id, bias.bias, 0.0f};
    }
  }
  if (request.penalties) {
    out.seen = staged_.device.seen + num_seen_;
    out.num_seen = staged_.device.num_seen + row;
    staged_.host.num_seen[row] = static_cast<int32_t>(request.seen.size());
    for (const SeenToken& token : request.seen) {
      staged_.host.seen[num_seen_++] = {token.id, token.output_count, 0.0f};
    }
    staged_.host.seen[num_seen_++] = {};
  }
  return true;
}

absl::Status DeviceSampler::Upload(cudaStream_t stream) {
  const auto upload = [&](const auto* host, size_t count) {
    return staged_.Upload(host, count * sizeof(*host), "uploading sampling parameters", stream);
  };
  const size_t rows = on_host_.size();
  TRIREME_RETURN_IF_ERROR(upload(staged_.host.rows, rows));
  if (num_seen_ > 0) TRIREME_RETURN_IF_ERROR(upload(staged_.host.num_seen, rows));
  TRIREME_RETURN_IF_ERROR(upload(staged_.host.biases, num_biases_));
  return upload(staged_.host.seen, num_seen_);
}

absl::Status DeviceSampler::Sample(absl::Span<const SampleRequest> requests,
                                   const Tensor& host_logits, cudaStream_t stream) {
  const size_t rows = requests.size();
  TRIREME_CHECK(rows <= static_cast<size_t>(max_rows_) && host_logits.cols <= logits_.cols);
  num_biases_ = num_seen_ = 0;
  on_host_.assign(rows, false);
  const auto vocab_size = static_cast<size_t>(host_logits.cols);
  const auto* const logits = static_cast<const float*>(logits_.data);
  for (size_t i = 0; i < rows; ++i) {
    staged_.host.rows[i] = {};
    staged_.host.num_seen[i] = 0;
    if (Place(requests[i], i)) continue;
    on_host_[i] = true;
    TRIREME_RETURN_IF_ERROR(
        CudaStatus(cudaMemcpyAsync(static_cast<float*>(host_logits.data) + i * vocab_size,
                                   logits + i * static_cast<size_t>(logits_.cols),
                                   vocab_size * sizeof(float), cudaMemcpyDeviceToHost, stream),
                   "fetching logits"));
  }
  TRIREME_RETURN_IF_ERROR(Upload(stream));
  return CudaStatus(
      cuda::Sample(static_cast<float*>(logits_.data), logits_.cols, static_cast<int>(vocab_size),
                   staged_.device.rows, static_cast<int64_t>(rows),
                   static_cast<cuda::SampledRow*>(results_->data()),
                   static_cast<int32_t*>(tokens_->data()), stream),
      "sampling");
}

absl::Span<const SampleOutcome> DeviceSampler::Outcomes() {
  const auto* const results = static_cast<const cuda::SampledRow*>(results_->data());
  outcomes_.assign(on_host_.size(), SampleOutcome{});
  for (size_t i = 0; i < outcomes_.size(); ++i) {
    if (on_host_[i]) continue;
    const cuda::SampledRow& result = results[i];
    SampleOutcome& outcome = outcomes_[i];
    outcome.kind = KindOf(result.status);
    if (outcome.kind != SampleOutcome::Kind::kToken) continue;
    outcome.id = result.token;
    if (staged_.host.rows[i].num_top < 0) continue;
    outcome.logprob = result.logprob;
    TokenLogprob* const top = top_.data() + i * cuda::kMaxTopLogprobs;
    for (int32_t j = 0; j < result.num_top; ++j) top[j] = {result.top[j].id, result.top[j].logprob};
    outcome.top = {top, static_cast<size_t>(result.num_top)};
  }
  return outcomes_;
}

}  // namespace trireme
