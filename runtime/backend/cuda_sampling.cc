#include "runtime/backend/cuda_sampling.h"

#include <algorithm>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 256;
constexpr int64_t kColumns = 4;  // the kernel reads rows by so many
// Room for what requests bring beside numbers. What has none is sampled on the host.
constexpr size_t kMaxBiases = size_t{64} << 10, kMaxSeen = size_t{512} << 10;

template <typename T>
void PlaceArray(size_t count, uint8_t* memory, size_t* used, T** array) {
  *array = memory == nullptr ? nullptr : reinterpret_cast<T*>(memory + *used);
  *used += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
}

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
  const size_t bytes = sampler->Layout(nullptr, &sampler->host_);
  TRIREME_ASSIGN_OR_RETURN(sampler->host_memory_, AllocatePinned(bytes));
  TRIREME_ASSIGN_OR_RETURN(sampler->device_memory_, AllocateDevice(bytes));
  sampler->Layout(static_cast<uint8_t*>(sampler->host_memory_->data()), &sampler->host_);
  sampler->Layout(static_cast<uint8_t*>(sampler->device_memory_->data()), &sampler->device_);
  TRIREME_ASSIGN_OR_RETURN(sampler->tokens_, AllocateDevice(rows * sizeof(int32_t)));
  // Written by the device across the bus: some bytes a row.
  TRIREME_ASSIGN_OR_RETURN(sampler->results_, AllocatePinned(rows * sizeof(cuda::SampledRow)));
  sampler->top_.resize(rows * cuda::kMaxTopLogprobs);
  return sampler;
}

size_t DeviceSampler::Layout(uint8_t* memory, Arrays* arrays) const {
  const auto rows = static_cast<size_t>(max_rows_);
  size_t used = 0;
  PlaceArray(rows, memory, &used, &arrays->rows);
  PlaceArray(rows, memory, &used, &arrays->num_seen);
  PlaceArray(kMaxBiases, memory, &used, &arrays->biases);
  PlaceArray(kMaxSeen, memory, &used, &arrays->seen);
  return used;
}

bool DeviceSampler::Place(const SampleRequest& request, size_t row) {
  if (request.on_host || request.num_top > cuda::kMaxTopLogprobs) return false;
  // The kernel counts the token that it chooses: room for one more.
  const size_t seen = request.penalties ? request.seen.size() + 1 : 0;
  if (request.biases.size() > kMaxBiases - num_biases_ || seen > kMaxSeen - num_seen_) return false;

  cuda::SampleRow& out = host_.rows[row];
  out.active = true;
  out.temperature = request.temperature;
  out.top_p = request.top_p;
  out.min_p = request.min_p;
  out.top_k = request.top_k;
  out.repetition_penalty = request.repetition_penalty;
  out.presence_penalty = request.presence_penalty;
  out.frequency_penalty = request.frequency_penalty;
  out.seed = request.seed;
  out.position = request.position;
  out.num_top = request.num_top;
  out.given = request.given;
  if (!request.biases.empty()) {
    out.biases = device_.biases + num_biases_;
    out.num_biases = static_cast<int32_t>(request.biases.size());
    for (const TokenBias& bias : request.biases) {
      host_.biases[num_biases_++] = {bias.id, bias.bias, 0.0f};
    }
  }
  if (request.penalties) {
    out.seen = device_.seen + num_seen_;
    out.num_seen = device_.num_seen + row;
    host_.num_seen[row] = static_cast<int32_t>(request.seen.size());
    for (const SeenToken& token : request.seen) {
      host_.seen[num_seen_++] = {token.id, token.output_count, 0.0f};
    }
    host_.seen[num_seen_++] = {};
  }
  return true;
}

absl::Status DeviceSampler::Upload(cudaStream_t stream) {
  const auto copy = [&](const void* host, size_t bytes) {
    if (bytes == 0) return absl::OkStatus();
    const auto offset =
        static_cast<const uint8_t*>(host) - static_cast<const uint8_t*>(host_memory_->data());
    return CudaStatus(cudaMemcpyAsync(static_cast<uint8_t*>(device_memory_->data()) + offset, host,
                                      bytes, cudaMemcpyHostToDevice, stream),
                      "uploading sampling parameters");
  };
  const size_t rows = on_host_.size();
  TRIREME_RETURN_IF_ERROR(copy(host_.rows, rows * sizeof(cuda::SampleRow)));
  if (num_seen_ > 0) TRIREME_RETURN_IF_ERROR(copy(host_.num_seen, rows * sizeof(int32_t)));
  TRIREME_RETURN_IF_ERROR(copy(host_.biases, num_biases_ * sizeof(cuda::TokenBias)));
  return copy(host_.seen, num_seen_ * sizeof(cuda::SeenToken));
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
    host_.rows[i] = {};
    host_.num_seen[i] = 0;
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
                   device_.rows, static_cast<int64_t>(rows),
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
    if (host_.rows[i].num_top < 0) continue;
    outcome.logprob = result.logprob;
    TokenLogprob* const top = top_.data() + i * cuda::kMaxTopLogprobs;
    for (int32_t j = 0; j < result.num_top; ++j) top[j] = {result.top[j].id, result.top[j].logprob};
    outcome.top = {top, static_cast<size_t>(result.num_top)};
  }
  return outcomes_;
}

}  // namespace trireme
