// Weights on the device: packed on host threads, piece after piece, while the piece before is on
// its way through page-locked memory.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/gemm/matmul.h"
#include "runtime/backend/backend.h"
#include "runtime/backend/compute_pool.h"

namespace trireme {

// A matrix of stacked parts. Neighbours of one format are one part here.
struct CudaMatrix : public Weight {
  int64_t rows() const override { return num_rows; }
  int64_t cols() const override { return parts[0].packed.cols; }
  size_t size_bytes() const override { return num_bytes; }

  struct Part {
    cuda::PackedMatrix packed;
    int64_t first_row = 0;                 // of the stacked matrix
    std::unique_ptr<Buffer> memory, bias;  // bias: null for none
    std::unique_ptr<Buffer> narrow_bias;   // the same in the activations' type, for cuBLASLt
  };
  std::vector<Part> parts;
  int64_t num_rows = 0;
  size_t num_bytes = 0;
  int64_t first_token = 0;  // of an embedding: of its first row
};

// F32 values.
struct CudaVector : public Weight {
  int64_t rows() const override { return 1; }
  int64_t cols() const override { return size; }
  size_t size_bytes() const override { return static_cast<size_t>(size) * sizeof(float); }
  const float* data() const { return static_cast<const float*>(memory->data()); }

  int64_t size = 0;
  std::unique_ptr<Buffer> memory;
};

// Used by one thread, which has made the device current.
class WeightUploader {
 public:
  // `stream` and `pool` outlive it. `for_cublaslt`: plain weights lie as CublasLt wants them,
  // whatever the device. `staging_bytes`: of page-locked memory, for two pieces.
  static absl::StatusOr<std::unique_ptr<WeightUploader>> Create(DType type, bool for_cublaslt,
                                                                size_t staging_bytes,
                                                                ComputePool* pool,
                                                                cudaStream_t stream);
  ~WeightUploader();

  // As Backend::PrepareMatrix. The parts' data may go away when it returns.
  absl::StatusOr<std::unique_ptr<CudaMatrix>> Matrix(absl::Span<const TensorView> parts,
                                                     absl::Span<const TensorView> bias);
  absl::StatusOr<std::unique_ptr<CudaVector>> Vector(absl::Span<const float> values);
  // A copy of them.
  absl::StatusOr<std::unique_ptr<Buffer>> Bytes(const void* from, size_t size);

 private:
  WeightUploader(DType type, bool for_cublaslt, ComputePool* pool, cudaStream_t stream)
      : type_(type), for_cublaslt_(for_cublaslt), pool_(*pool), stream_(stream) {}
  // Stacked parts of one format, from views [begin, end).
  absl::StatusOr<CudaMatrix::Part> Part(absl::Span<const TensorView> views);
  absl::Status SetBias(absl::Span<const float> values, CudaMatrix::Part* part);
  // The half of the staging memory whose copy was begun longest ago, when that is done.
  absl::StatusOr<uint8_t*> NextHalf();
  absl::Status Upload(void* to, const void* from_half, size_t bytes);

  const DType type_;
  const bool for_cublaslt_;
  ComputePool& pool_;
  const cudaStream_t stream_;
  std::unique_ptr<Buffer> staging_;
  size_t half_bytes_ = 0;
  cudaEvent_t copied_[2] = {};
  int next_ = 0;
};

}  // namespace trireme
