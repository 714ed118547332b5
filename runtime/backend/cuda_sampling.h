// Requests of a step on their way to the sampling kernel, and its tokens on their way back.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/sampling/sampling.h"
#include "runtime/backend/backend.h"
#include "runtime/backend/cuda_staging.h"

namespace trireme {

// Used by one thread, which has made the device current. Nothing is allocated after Create.
class DeviceSampler {
 public:
  // Logits of up to `max_rows` rows of `columns`, and what it takes to sample them.
  static absl::StatusOr<std::unique_ptr<DeviceSampler>> Create(int max_rows, int64_t columns);

  // F32 [max_rows, columns or a few more].
  Tensor logits() const { return logits_; }
  // Backend::Sample. The stream has ended what an earlier call enqueued.
  absl::Status Sample(absl::Span<const SampleRequest> requests, const Tensor& host_logits,
                      cudaStream_t stream);
  // Once the stream has ended. Valid until the next Sample.
  absl::Span<const SampleOutcome> Outcomes();

 private:
  struct Arrays {           // what a step uploads
    cuda::SampleRow* rows;  // [max_rows]
    int32_t* num_seen;      // [max_rows]
    cuda::TokenBias* biases;
    cuda::SeenToken* seen;
  };
  explicit DeviceSampler(int max_rows) : max_rows_(max_rows) {}
  // Whether there was room for it.
  bool Place(const SampleRequest& request, size_t row);
  absl::Status Upload(cudaStream_t stream);

  const int max_rows_;
  Tensor logits_;
  std::unique_ptr<Buffer> logits_memory_, tokens_, results_;
  StagedArrays<Arrays> staged_;
  // Of the last Sample.
  size_t num_biases_ = 0, num_seen_ = 0;  // that are taken
  std::vector<bool> on_host_;
  std::vector<TokenLogprob> top_;
  std::vector<SampleOutcome> outcomes_;
};

}  // namespace trireme
