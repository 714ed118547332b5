// A second Backend: kernels/reference (double precision) over plain host memory. Slow; shows what a
// result should be, and fails allocations on demand.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "runtime/backend/backend.h"
#include "tests/fakes/rank_exchange.h"

namespace trireme::fakes {

class ReferenceBackend : public Backend {
 public:
  struct Options {
    // Of all weights and buffers; beyond it, preparations and allocations fail.
    size_t memory_limit_bytes = std::numeric_limits<size_t>::max();
    // Products with quantised weights see their input rounded to int8, 127 steps to the largest of
    // 32 values. The error of this against the exact result is what fast kernels may have.
    bool int8_activations = false;
    // Several ranks: each a backend and a thread of this process.
    RankExchange* exchange = nullptr;
    int rank = 0;
  };
  ReferenceBackend() : ReferenceBackend(Options{}) {}
  explicit ReferenceBackend(const Options& options)
      : int8_activations_(options.int8_activations),
        exchange_(options.exchange),
        rank_(options.rank),
        bytes_left_(options.memory_limit_bytes) {}

  absl::StatusOr<std::unique_ptr<Weight>> PrepareMatrix(absl::Span<const TensorView> parts,
                                                        absl::Span<const TensorView> bias) override;
  absl::StatusOr<std::unique_ptr<Weight>> PrepareEmbedding(const TensorView& table,
                                                           int64_t first_token) override;
  absl::StatusOr<std::unique_ptr<Weight>> PrepareVector(const TensorView& vector) override;
  absl::StatusOr<std::unique_ptr<Weight>> PrepareRope(const RopeTable& table) override;
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateReadable(size_t bytes) override {
    return Allocate(bytes);
  }
  std::string Describe() const override { return "reference"; }
  absl::Status Reserve(const StepLimits&) override { return absl::OkStatus(); }
  DType activation_dtype() const override { return DType::kF32; }
  absl::Span<const DType> kv_dtypes() const override {
    static constexpr DType kTypes[] = {DType::kF16, DType::kBF16, DType::kF32};
    return kTypes;
  }
  FreeMemory Memory() const override { return {}; }

  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override;
  void Embed(const Weight& table, float scale, Tensor x) override;
  void RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) override;
  void AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps, Tensor y) override;
  void MatMul(const Weight& w, Tensor x, Tensor y) override;
  void RopeAndStoreKv(const Weight& rope, int num_heads, const KvLayerView& kv,
                      Tensor qkv) override;
  void Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                 Tensor out) override;
  void GatedActivation(Activation act, Tensor gate_up, Tensor out) override;
  void GatherLogitRows(Tensor x, Tensor y) override;
  void Logits(const Weight& head, Tensor h, Tensor logits) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }
  void ParallelFor(int n, const std::function<void(int)>& fn) override;

 private:
  absl::Status Take(size_t bytes);
  // x becomes the sum over the ranks.
  void Sum(Tensor x) const;

  const bool int8_activations_;
  RankExchange* const exchange_;
  const int rank_;
  size_t bytes_left_;
  BatchView batch_;  // of the current step; the caller keeps what it points to
};

}  // namespace trireme::fakes
