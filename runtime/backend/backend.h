// What a model needs of a device: memory, prepared weights, operators. One Backend per rank, driven
// by one thread.
//
// Several ranks compute one model together: each has a part of the weights (runtime/model/shard.h)
// and calls the same operators in the same order. Embed, AddRmsNorm and Logits exchange results.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/backend/sampling.h"
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

// A weight (or a table of constants) in the form that the backend computes on.
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

// What the steps to come are like at most, and what the kernels must know of the model.
struct StepLimits {
  int max_tokens = 0;       // in one step
  int max_sequences = 0;    // in one step
  int max_logit_rows = 0;   // in one step
  int64_t max_context = 0;  // tokens of one sequence
  int block_size = 16;      // of the KV cache
  int num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int window = 0;             // AttentionParams::window
  int64_t hidden_size = 0;    // columns of the residual stream
  int64_t logit_columns = 0;  // that each rank computes
};

// What is free for a KV cache of unstated size, and the share of it that it may take.
struct FreeMemory {
  std::optional<int64_t> bytes;  // nullopt: unknown
  int kv_percent = 50;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // For people: "cpu (avx2, 2 threads)".
  virtual std::string Describe() const = 0;

  // ---- Load time.
  // A matrix made of `parts` stacked along rows (QKV, gate and up); all have the same cols. `bias`:
  // F32, stacked alike, or empty. The parts' data may go away afterwards. RESOURCE_EXHAUSTED names
  // the bytes needed and free.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareMatrix(
      absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) = 0;
  // A table whose rows are gathered by token id, the first row that of `first_token`: on several
  // ranks each has some of the rows. Serves Logits too: a tied output projection.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareEmbedding(const TensorView& table,
                                                                   int64_t first_token) = 0;
  // A vector, widened to what the kernels want (norm gains).
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareVector(const TensorView& vector) = 0;
  // A rotary table; what it points to may go away.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareRope(const RopeTable& table) = 0;
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  // The activations that operators exchange between ranks, of one layout on all of them: called
  // once at most, behind Reserve, and given back when no rank computes any more.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateShared(size_t bytes) {
    return Allocate(bytes);
  }
  // Memory that operators write and the host reads after Synchronize (logits).
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateReadable(size_t bytes) = 0;
  // What a step needs beside activations. Called once, before anything else. INVALID_ARGUMENT names
  // what of the model's shape the backend has no kernel for.
  virtual absl::Status Reserve(const StepLimits& limits) = 0;
  // Of all activations but the residual stream and the logits, which are F32.
  virtual DType activation_dtype() const = 0;
  // Types that the KV cache can have, the preferred one first.
  virtual absl::Span<const DType> kv_dtypes() const = 0;
  virtual FreeMemory Memory() const = 0;

  // ---- Step time. What is enqueued runs in order; Synchronize waits.
  // Whether what is called below only enqueues: the device computes while the caller does something
  // else. False: it computes, on the caller's thread among others.
  virtual bool computes_by_itself() const { return false; }
  // Makes the batch the current one (token ids, positions, block tables; copied) and enqueues what
  // `forward(num_tokens, num_logits)` calls below, or what it called for an earlier batch of the
  // same shape. The numbers are the batch's, or more where the backend pads it, within the limits:
  // rows beyond the batch's hold nothing of use. `forward` must enqueue the same for the same
  // numbers every time, on the same memory.
  virtual void Step(const BatchView& batch,
                    absl::FunctionRef<void(int num_tokens, int num_logits)> forward) = 0;
  virtual void Embed(const Weight& table, float scale, Tensor x) = 0;  // x: [tokens, hidden]
  virtual void RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) = 0;
  // x += delta first. On several ranks delta is a share of what is added: the ranks' shares are
  // summed in their order, whatever the number of rows. It is in memory of AllocateShared, where
  // two calls in a row have different ones: ranks that are behind still read the one before.
  virtual void AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps, Tensor y) = 0;
  virtual void MatMul(const Weight& w, Tensor x, Tensor y) = 0;  // y = x w^T + bias
  // qkv: [tokens, (num_heads + 2 num_kv_heads) * head_dim]. Rotates q and k in place, stores k and
  // v of all tokens.
  virtual void RopeAndStoreKv(const Weight& rope, int num_heads, const KvLayerView& kv,
                              Tensor qkv) = 0;
  // Heads of q inside qkv (row stride qkv.cols); out: [tokens, num_heads * head_dim].
  virtual void Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                         Tensor out) = 0;
  virtual void GatedActivation(Activation act, Tensor gate_up,
                               Tensor out) = 0;  // gate_up: [tokens, 2n], out: [tokens, n]
  // y[i] = x[logit_tokens[i]] of the current batch.
  virtual void GatherLogitRows(Tensor x, Tensor y) = 0;
  // logits = h head^T. On several ranks each computes the columns of its part of the head, and the
  // first rank gets them all; the others' logits.data is null.
  virtual void Logits(const Weight& head, Tensor h, Tensor logits) { MatMul(head, h, logits); }

  // ---- Sampling on the device: instead of logits, tokens cross the bus. Of the first rank.
  // Where logits must go for Sample, from Reserve on: F32 [max_logit_rows, at least vocab_size].
  // Null data: there is no Sample, and logits go to memory of AllocateReadable.
  virtual Tensor sampled_logits() const { return {}; }
  // Behind the step's Logits: chooses a token from each of the first rows of sampled_logits(),
  // whose contents are lost. `requests` and what they point to are not needed afterwards.
  // host_logits: [rows, vocab_size] of AllocateReadable, gets the rows that are the host's to
  // sample. Enqueued.
  virtual void Sample([[maybe_unused]] absl::Span<const SampleRequest> requests,
                      [[maybe_unused]] Tensor host_logits) {}
  // Of the requests of the last Sample, after Synchronize and until the next step.
  virtual absl::Span<const SampleOutcome> sampled() { return {}; }

  // Waits for all that was enqueued. An error means that the device is lost: nothing but
  // destructors is called after it.
  virtual absl::Status Synchronize() = 0;
  // Any thread, at any time after load: ends the wait for ranks that have failed or hang, so that
  // Synchronize returns an error.
  virtual void Abort() {}

  // Runs fn(i) for i in [0, n) on the backend's host threads (sampling); returns when all are done.
  virtual void ParallelFor(int n, const std::function<void(int)>& fn) = 0;
};

}  // namespace trireme
