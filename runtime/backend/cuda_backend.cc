#include "runtime/backend/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/gemm/matmul.h"
#include "runtime/backend/compute_pool.h"
#include "runtime/backend/cuda_communicator.h"
#include "runtime/backend/cuda_cublaslt.h"
#include "runtime/backend/cuda_graphs.h"
#include "runtime/backend/cuda_memory.h"
#include "runtime/backend/cuda_sampling.h"
#include "runtime/backend/cuda_step.h"
#include "runtime/backend/cuda_weights.h"
#include "runtime/base/check.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr int kMaxGraphs = 32;              // captured decode batch sizes
constexpr size_t kStagingBytes = 32 << 20;  // page-locked, for weights on their way to the device
constexpr int kMinCapability = 80;          // mma.sync with bf16, cp.async
// Of free memory, for a KV cache of unstated size; the rest is the driver's, and for graphs.
constexpr int kKvPercent = 90;

struct CudaRope : public Weight {
  int64_t rows() const override { return 1; }
  int64_t cols() const override { return rope.rotary_dim / 2; }
  size_t size_bytes() const override { return memory->size_bytes(); }
  cuda::DeviceRope rope;
  std::unique_ptr<Buffer> memory;
};

const CudaMatrix& AsMatrix(const Weight& w) { return static_cast<const CudaMatrix&>(w); }
const float* AsVector(const Weight& w) { return static_cast<const CudaVector&>(w).data(); }

// The number of tokens that a decode step is padded to, in steps of an eighth of the next power of
// two: of 256, 28 sizes, and less than a quarter of the rows is padding.
int PaddedTokens(int n) {
  int step = 1;
  while (8 * step < n) step *= 2;
  return (n + step - 1) / step * step;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const CudaBackendOptions& options, std::string description)
      : device_(options.device),
        description_(std::move(description)),
        comm_(options.communicator),
        type_(options.dtype),
        pool_({.num_threads = options.num_threads}),
        graphs_(kMaxGraphs) {}

  ~CudaBackend() override {
    cudaSetDevice(device_);
    uploader_.reset();
    if (stream_ != nullptr) {
      cudaStreamSynchronize(stream_);
      cudaStreamDestroy(stream_);
    }
  }

  absl::Status Init(Gemm gemm) {
    TRIREME_RETURN_IF_ERROR(
        CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
    if (gemm == Gemm::kCublasLt) {
      TRIREME_ASSIGN_OR_RETURN(cublaslt_, MakeCublasLt());
      own_kernels_take_rows_ =
          cuda::LayoutFor(cuda::MatrixFormat::kPlain) == cuda::MatrixLayout::kRows;
    }
    TRIREME_ASSIGN_OR_RETURN(uploader_,
                             WeightUploader::Create(type_, /*for_cublaslt=*/cublaslt_ != nullptr,
                                                    kStagingBytes, &pool_, stream_));
    return absl::OkStatus();
  }

  std::string Describe() const override { return description_; }

  // ---- Load time.

  absl::StatusOr<std::unique_ptr<Weight>> PrepareMatrix(
      absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) override {
    return uploader_->Matrix(parts, bias);
  }
  absl::StatusOr<std::unique_ptr<Weight>> PrepareEmbedding(const TensorView& table,
                                                           int64_t first_token) override {
    TRIREME_ASSIGN_OR_RETURN(auto matrix, uploader_->Matrix({&table, 1}, {}));
    matrix->first_token = first_token;
    return matrix;
  }
  absl::StatusOr<std::unique_ptr<Weight>> PrepareVector(const TensorView& vector) override {
    std::vector<float> values(static_cast<size_t>(vector.num_elements()));
    DequantizeRow(vector.dtype, vector.data, vector.num_elements(), values.data());
    return uploader_->Vector(values);
  }

  absl::StatusOr<std::unique_ptr<Weight>> PrepareRope(const RopeTable& table) override {
    std::vector<uint64_t> turns;
    for (int i = 0; i < table.rotary_dim / 2; ++i) {
      turns.push_back(cuda::TurnsOf(table.inverse_frequency[i]));
    }
    auto rope = std::make_unique<CudaRope>();
    TRIREME_ASSIGN_OR_RETURN(rope->memory,
                             uploader_->Bytes(turns.data(), turns.size() * sizeof(uint64_t)));
    rope->rope = {.rotary_dim = table.rotary_dim,
                  .interleaved = table.interleaved,
                  .turns = static_cast<const uint64_t*>(rope->memory->data()),
                  .magnitude = table.magnitude};
    return rope;
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    cudaSetDevice(device_);  // of this thread: load and steps may be different ones
    TRIREME_ASSIGN_OR_RETURN(auto buffer, AllocateDevice(bytes));
    TRIREME_RETURN_IF_ERROR(
        CudaStatus(cudaMemsetAsync(buffer->data(), 0, bytes, stream_), "clearing memory"));
    return buffer;
  }
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateShared(size_t bytes) override {
    TRIREME_ASSIGN_OR_RETURN(auto buffer, Allocate(bytes));
    if (flags_ == nullptr) return buffer;
    // The others may read as soon as it is added: what clears flags and messages has to be done.
    TRIREME_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_), "clearing memory"));
    comm_->peers()->Add(comm_->rank(), *buffer, *shares_, *flags_);
    return buffer;
  }
  // The host's memory, written by the device across the bus: no copy, and nothing to wait for
  // but the step.
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateReadable(size_t bytes) override {
    return AllocatePinned(bytes);
  }

  absl::Status Reserve(const StepLimits& limits) override {
    max_tokens_ = std::min(limits.max_tokens, limits.max_logit_rows);
    TRIREME_ASSIGN_OR_RETURN(tables_, StepTables::Create(limits));
    const int num_ranks = comm_ == nullptr ? 1 : comm_->num_ranks();
    if (comm_ == nullptr || comm_->rank() == 0) {
      const int64_t columns = num_ranks * limits.logit_columns;
      if (columns <= cuda::kMaxVocab) {
        TRIREME_ASSIGN_OR_RETURN(sampler_, DeviceSampler::Create(limits.max_logit_rows, columns));
      }
    }
    if (comm_ == nullptr) return absl::OkStatus();
    const auto ranks = static_cast<size_t>(num_ranks);
    const size_t message = static_cast<size_t>(limits.max_tokens) *
                           static_cast<size_t>(limits.hidden_size) * sizeof(uint16_t);
    if (comm_->peers() != nullptr) {
      TRIREME_ASSIGN_OR_RETURN(shares_, Allocate(message));
      TRIREME_ASSIGN_OR_RETURN(flags_, Allocate(cuda::kAllReduceFlags * sizeof(uint32_t)));
      TRIREME_ASSIGN_OR_RETURN(abort_, AllocatePinned(sizeof(uint32_t)));
      *static_cast<uint32_t*>(abort_->data()) = 0;
    } else {
      TRIREME_ASSIGN_OR_RETURN(shares_, Allocate(ranks * message));
    }
    logit_columns_ = limits.logit_columns;
    const size_t logits = static_cast<size_t>(limits.max_logit_rows) *
                          static_cast<size_t>(logit_columns_) * sizeof(float);
    TRIREME_ASSIGN_OR_RETURN(logits_, Allocate(logits));
    if (comm_->rank() == 0) {
      TRIREME_ASSIGN_OR_RETURN(all_logits_, Allocate(ranks * logits));
    }
    return absl::OkStatus();
  }

  DType activation_dtype() const override { return type_; }
  absl::Span<const DType> kv_dtypes() const override { return {&type_, 1}; }

  FreeMemory Memory() const override {
    size_t free = 0, total = 0;
    cudaSetDevice(device_);
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
    return {static_cast<int64_t>(free), kKvPercent};
  }

  // ---- Step time.

  bool computes_by_itself() const override { return true; }

  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override {
    Keep(cudaSetDevice(device_), "choosing the device");  // of this thread; cheap when it is
    size_ = {static_cast<int>(batch.tokens.size()), static_cast<int>(batch.logit_tokens.size())};
    // One token a sequence, all of them sampled: the shape of nearly every step of a busy node.
    const int padded = PaddedTokens(size_.num_tokens);
    const bool decode = batch.tokens.size() == batch.sequences.size() &&
                        batch.tokens.size() == batch.logit_tokens.size() && padded <= max_tokens_;
    // By its shape alone, whether there is a graph or not: ranks must agree.
    if (decode) size_ = {padded, padded, /*decode=*/true};
    Keep(tables_->Upload(batch, size_, stream_));
    if (!status_.ok()) return;
    const auto enqueue = [&] { forward(size_.num_tokens, size_.num_logits); };
    if (decode && graphs_.Has(padded)) {
      Keep(graphs_.Launch(padded, stream_));
      return;
    }
    enqueue();
    if (decode && status_.ok()) Keep(graphs_.Capture(padded, stream_, enqueue));
  }

  void Embed(const Weight& table, float scale, Tensor x) override {
    const CudaMatrix& matrix = AsMatrix(table);
    auto* const data = static_cast<float*>(x.data);
    Keep(cuda::Embed(matrix.parts[0].packed, matrix.first_token, tables_->Batch(size_).tokens,
                     x.rows, scale, data, stream_),
         "embedding");
    if (comm_ != nullptr) Keep(comm_->Sum(data, static_cast<size_t>(x.rows * x.cols), stream_));
  }

  void RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) override {
    Keep(cuda::RmsNorm(type_, static_cast<const float*>(x.data), AsVector(gain), eps, x.rows,
                       x.cols, y.data, stream_),
         "norm");
  }

  void AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps, Tensor y) override {
    const int64_t bytes = delta.rows * RowBytes(delta.dtype, delta.cols);
    if (flags_ != nullptr) {
      const cuda::Peers peers = comm_->peers()->Group(comm_->rank(), delta.data,
                                                      static_cast<const uint32_t*>(abort_->data()));
      Keep(cuda::AllReduceAddRmsNorm(type_, peers, cuda::UsesOneShot(peers.world, bytes),
                                     static_cast<float*>(x.data), AsVector(gain), eps, x.rows,
                                     x.cols, y.data, stream_),
           "summing over the ranks");
      return;
    }
    const void* shares = delta.data;
    int num_shares = 1;
    if (comm_ != nullptr) {
      Keep(comm_->AllGather(delta.data, static_cast<size_t>(bytes), shares_->data(), stream_));
      shares = shares_->data();
      num_shares = comm_->num_ranks();
    }
    Keep(cuda::AddRmsNorm(type_, static_cast<float*>(x.data), shares, num_shares, AsVector(gain),
                          eps, x.rows, x.cols, y.data, stream_),
         "norm");
  }

  void MatMul(const Weight& w, Tensor x, Tensor y) override {
    const bool f32_out = y.dtype == DType::kF32;
    for (const CudaMatrix::Part& part : AsMatrix(w).parts) {
      auto* const to = static_cast<uint8_t*>(y.data) + part.first_row * RowBytes(y.dtype, 1);
      if (cublaslt_ != nullptr && UsesCublasLt(part.packed, own_kernels_take_rows_, x.rows)) {
        const std::unique_ptr<Buffer>& bias = f32_out ? part.bias : part.narrow_bias;
        Keep(cublaslt_->MatMul(part.packed, bias == nullptr ? nullptr : bias->data(), x.data,
                               x.rows, f32_out, to, y.cols, stream_));
      } else {
        Keep(cuda::MatMul(part.packed, x.data, x.rows, f32_out, to, y.cols, stream_),
             "matrix product");
      }
    }
  }

  void RopeAndStoreKv(const Weight& rope, int num_heads, const KvLayerView& kv,
                      Tensor qkv) override {
    TRIREME_DCHECK(kv.HasValidStride());
    Keep(cuda::RopeAndStoreKv(type_, static_cast<const CudaRope&>(rope).rope, {}, num_heads, kv,
                              tables_->Batch(size_), qkv.data, stream_),
         "rotary embedding");
  }

  void Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                 Tensor out) override {
    Keep(cuda::Attention(type_, params, kv, tables_->Batch(size_), tables_->Work(size_), qkv.data,
                         qkv.cols, out.data, out.cols, stream_),
         "attention");
  }

  void GatedActivation(Activation act, Tensor gate_up, Tensor out) override {
    Keep(cuda::GatedActivation(type_, act, gate_up.data, out.rows, out.cols, out.data, stream_),
         "activation");
  }

  void GatherLogitRows(Tensor x, Tensor y) override {
    Keep(cuda::GatherRows(x.data, tables_->logit_rows(), y.rows, RowBytes(x.dtype, x.cols), y.data,
                          stream_),
         "gathering rows");
  }

  void Logits(const Weight& head, Tensor h, Tensor logits) override {
    if (comm_ == nullptr) return MatMul(head, h, logits);
    MatMul(head, h, {logits_->data(), DType::kF32, h.rows, logit_columns_});
    const size_t bytes = static_cast<size_t>(h.rows * logit_columns_) * sizeof(float);
    auto* const all = all_logits_ == nullptr ? nullptr : static_cast<uint8_t*>(all_logits_->data());
    Keep(comm_->Gather(logits_->data(), bytes, all, stream_));
    if (all == nullptr) return;
    const auto pitch = static_cast<size_t>(logit_columns_) * sizeof(float);
    const auto row = static_cast<size_t>(logits.cols) * sizeof(float);
    const auto ranks = static_cast<size_t>(comm_->num_ranks());
    for (size_t begin = 0, rank = 0; begin < row && rank < ranks; begin += pitch, ++rank) {
      Keep(cudaMemcpy2DAsync(static_cast<uint8_t*>(logits.data) + begin, row, all + rank * bytes,
                             pitch, std::min(pitch, row - begin), static_cast<size_t>(h.rows),
                             cudaMemcpyDefault, stream_),
           "collecting logits");
    }
  }

  // ---- Sampling.

  Tensor sampled_logits() const override {
    return sampler_ == nullptr ? Tensor{} : sampler_->logits();
  }
  void Sample(absl::Span<const SampleRequest> requests, Tensor host_logits) override {
    if (status_.ok()) Keep(sampler_->Sample(requests, host_logits, stream_));
  }
  absl::Span<const SampleOutcome> sampled() override { return sampler_->Outcomes(); }

  absl::Status Synchronize() override {
    // What was not launched may be what other ranks wait for, and this one's stream for them.
    if (!status_.ok()) Abort();
    Keep(cudaStreamSynchronize(stream_), "running a step");
    if (comm_ != nullptr) Keep(comm_->Health());
    if (status_.ok()) Keep(graphs_.Instantiate());  // no rank waits for this one any more
    return status_;
  }

  void Abort() override {
    if (abort_ != nullptr) {
      std::atomic_ref(*static_cast<uint32_t*>(abort_->data())).store(1, std::memory_order_release);
    }
    if (comm_ != nullptr) comm_->Abort();
  }

  void ParallelFor(int n, const std::function<void(int)>& fn) override {
    pool_.For(n, 1, [&](int64_t begin, int64_t, int) { fn(static_cast<int>(begin)); });
  }

 private:
  // The first error of the step; it is for good.
  void Keep(absl::Status status) { status_.Update(std::move(status)); }
  void Keep(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess) Keep(CudaStatus(error, what));
  }

  const int device_;
  const std::string description_;
  const std::shared_ptr<CudaCommunicator> comm_;  // null: the model has one rank
  const DType type_;                              // of activations, plain weights and KV cache
  ComputePool pool_;
  GraphCache graphs_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CublasLt> cublaslt_;  // null: our own kernels multiply everything
  bool own_kernels_take_rows_ = false;  // plain weights', on this device
  std::unique_ptr<WeightUploader> uploader_;
  std::unique_ptr<StepTables> tables_;      // from Reserve on
  std::unique_ptr<DeviceSampler> sampler_;  // so, too; null: of another rank, or too many ids
  int max_tokens_ = 0;                      // of a captured step

  // With several ranks.
  std::unique_ptr<Buffer> shares_;      // [num_ranks, tokens, hidden] of type_; peers: one rank's
  std::unique_ptr<Buffer> flags_;       // of the all-reduce between peers; null: NCCL does it
  std::unique_ptr<Buffer> abort_;       // a word of the host's that the all-reduce looks at
  std::unique_ptr<Buffer> logits_;      // F32 [rows, logit_columns]: this rank's
  std::unique_ptr<Buffer> all_logits_;  // F32 [num_ranks, rows, logit_columns], on the first
  int64_t logit_columns_ = 0;

  StepSize size_;  // of the current step
  absl::Status status_;
};

}  // namespace

absl::StatusOr<int> CountCudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // the next call has its own
  if (error == cudaSuccess && count > 0) return count;
  return absl::FailedPreconditionError(
      StrCat("no CUDA device: ", error != cudaSuccess ? cudaGetErrorString(error) : "none found",
             "; `trireme doctor` looks at driver and devices"));
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const int count, CountCudaDevices());
  if (options.device < 0 || options.device >= count) {
    return absl::InvalidArgumentError(
        StrCat("no CUDA device ", options.device, ": there are ", count));
  }
  cudaDeviceProp properties = {};
  TRIREME_RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, options.device), "asking for the device"));
  if (properties.major * 10 + properties.minor < kMinCapability) {
    return absl::FailedPreconditionError(StrCat(properties.name, " has compute capability ",
                                                properties.major, ".", properties.minor,
                                                "; 8.0 (A100) or later is needed"));
  }
  TRIREME_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(options.device), "choosing the device"));
  auto backend = std::make_unique<CudaBackend>(
      options, StrCat("cuda:", options.device, " (", properties.name,
                      options.dtype == DType::kF16 ? ", f16" : ", bf16",
                      options.gemm == Gemm::kCublasLt ? ", cuBLASLt)" : ")"));
  TRIREME_RETURN_IF_ERROR(backend->Init(options.gemm));
  return backend;
}

}  // namespace trireme
