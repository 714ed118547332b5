// The batch of the current step in device memory: token ids, positions, block tables, rows of
// logits, the attention's work. Laid out once, at fixed addresses, so that captured graphs read
// whatever step is current.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/batch.h"
#include "runtime/backend/backend.h"
#include "runtime/backend/cuda_staging.h"

namespace trireme {

// Of what a graph is captured for: the rows that its kernels are launched with.
struct StepSize {
  int num_tokens = 0, num_logits = 0;
  bool decode = false;  // one token a sequence: no prefill items
};

// Used by one thread, which has made the device current.
class StepTables {
 public:
  // INVALID_ARGUMENT when there is no attention kernel for the shape.
  static absl::StatusOr<std::unique_ptr<StepTables>> Create(const StepLimits& limits);
  ~StepTables();

  // Allocates nothing. Copies the batch to page-locked memory, padded to `size`, and enqueues its
  // upload. Waits only for the upload before this one.
  absl::Status Upload(const BatchView& batch, const StepSize& size, cudaStream_t stream);

  // Of the current step, for launches of `size`.
  cuda::Batch Batch(const StepSize& size) const;
  cuda::DeviceAttentionWork Work(const StepSize& size) const;
  const int32_t* logit_rows() const { return staged_.device.logit_rows; }

 private:
  struct Arrays {
    int32_t *tokens, *positions, *sequence_of, *logit_rows, *counts, *block_tables;
    cuda::AttentionItem *prefill, *decode, *merge;
  };
  explicit StepTables(const StepLimits& limits);
  void Place(ArrayPlacer* placer, Arrays* arrays) const;
  void FillTokens(const BatchView& batch, const StepSize& size);
  // The blocks of the longest table.
  int FillBlockTables(const BatchView& batch);
  void PlanWork(const BatchView& batch);

  const StepLimits limits_;
  const cuda::AttentionShape shape_;
  const int table_stride_;
  const cuda::AttentionCapacity capacity_;
  StagedArrays<Arrays> staged_;
  std::unique_ptr<Buffer> partials_;
  cudaEvent_t uploaded_ = nullptr;
  // Of the current step. A step allocates nothing.
  std::vector<cuda::QuerySlice> slices_;
  cuda::AttentionWork work_;
};

}  // namespace trireme
