// What a model needs of a device: memory, prepared weights, operators. One Backend per rank, driven
// by one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/base/ids.h"
#include "runtime/base/tensor_view.h"

namespace trireme {

// Device memory: a matrix [rows, cols] of activations. Plain handle; memory belongs to a Buffer.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
};

class Buffer {  // owns device memory
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual size_t size_bytes() const = 0;
};

// A weight in the form that the backend computes on.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual size_t size_bytes() const = 0;
};

// The share of one sequence in a step. Tokens of a sequence are consecutive in the batch.
struct SequenceSlice {
  int first_token = 0;  // index of its first token in the batch
  int num_tokens = 0;
  int64_t first_position =
      0;  // position of that token; its KV context is [0, first_position + num_tokens)
  absl::Span<const BlockId> blocks;  // block table, covers the context
};
struct BatchView {
  absl::Span<const TokenId> tokens;  // [num_tokens]
  absl::Span<const SequenceSlice> sequences;
  absl::Span<const int32_t> logit_tokens;  // indices of tokens whose logits are wanted, ascending
};

class Backend {
 public:
  virtual ~Backend() = default;

  // ---- Load time.
  // A matrix made of `parts` stacked along rows (QKV, gate and up); all have the same cols. `bias`:
  // F32 or empty. The parts' data may go away afterwards. RESOURCE_EXHAUSTED names the bytes needed
  // and free.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareMatrix(
      absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) = 0;
  // A table whose rows are gathered by token id. The result also serves MatMul: a model with tied embeddings prepares
  // its table once, with this.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareEmbedding(const TensorView& table) = 0;
  // A vector, widened to what the kernels want (norm gains).
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareVector(const TensorView& vector) = 0;
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  virtual DType activation_dtype() const = 0;

  // ---- Step time. Enqueued in order; Synchronize waits.
  virtual void BeginStep(const BatchView& batch) = 0;  // uploads token ids, positions and block
                                                       // tables; kept until next
  virtual void Embed(const Weight& table, float scale, Tensor x) = 0;  // x: [tokens, hidden]
  virtual void RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) = 0;
  virtual void AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps,
                          Tensor y) = 0;                         // x += delta
  virtual void MatMul(const Weight& w, Tensor x, Tensor y) = 0;  // y = x w^T + bias
  // qkv: [tokens, (num_heads + 2 num_kv_heads) * head_dim]. Rotates q and k in place, stores k and
  // v of all tokens.
  virtual void RopeAndStoreKv(const RopeTable& rope, int num_heads, const KvLayerView& kv,
                              Tensor qkv) = 0;
  // Heads of q inside qkv (row stride qkv.cols); out: [tokens, num_heads * head_dim].
  virtual void Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                         Tensor out) = 0;
  virtual void GatedActivation(Activation act, Tensor gate_up,
                               Tensor out) = 0;  // gate_up: [tokens, 2n], out: [tokens, n]
  // y[i] = x[logit_tokens[i]] of the current batch.
  virtual void GatherLogitRows(Tensor x, Tensor y) = 0;
  virtual void Synchronize() = 0;

  // Runs fn(i) for i in [0, n) on the backend's host threads (sampling); returns when all are done.
  virtual void ParallelFor(int n, const std::function<void(int)>& fn) = 0;
};

}  // namespace trireme
