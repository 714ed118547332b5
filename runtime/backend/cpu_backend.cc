#include "runtime/backend/cpu_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/backend/compute_pool.h"
#include "runtime/backend/matrix_parts.h"
#include "runtime/backend/weight_arena.h"
#include "runtime/base/check.h"
#include "runtime/base/cpus.h"
#include "runtime/base/memory.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

using cpu::ActivationBlock;
using cpu::kBlock;
using cpu::PackedMatrix;

constexpr int kMaxThreads = 1024;
// Row-wise work is claimed in ranges of at least so many elements, few enough that the rows of some
// tens of tokens are shared by the threads, and in so many ranges a thread at most.
constexpr int64_t kRowGrainElements = 4096;
constexpr int64_t kRowRanges = 8;
// Query tokens of an attention work item; enough that the KV tiles read are used well, few enough
// to balance.
constexpr int kAttentionTokens = 32;

// Immutable once prepared.
struct CpuMatrix : public Weight {
  int64_t rows() const override { return num_rows; }
  int64_t cols() const override { return parts[0].packed.cols; }
  size_t size_bytes() const override { return num_bytes; }

  struct Part {
    PackedMatrix packed;
    int64_t first_row = 0;    // of the stacked matrix
    int64_t first_panel = 0;  // counted over all parts
  };
  std::vector<Part> parts;
  std::vector<float> bias;  // [rows] or empty
  bool quantized = false;   // at least one part reads ActivationBlocks
  int64_t num_rows = 0;
  int64_t num_panels = 0;
  std::vector<int64_t> panel_ranges;  // PanelRanges
  size_t num_bytes = 0;
  std::shared_ptr<uint8_t> storage;
};

// Ranges of panels for threads to claim, the first panel of each and the end: long ones first,
// within which the next panel is brought to the cache while one is computed, then ever shorter ones
// for balance.
std::vector<int64_t> PanelRanges(int64_t num_panels, int num_threads) {
  std::vector<int64_t> ranges = {0};
  while (ranges.back() < num_panels) {
    const int64_t left = num_panels - ranges.back();
    ranges.push_back(ranges.back() + std::max<int64_t>(1, left / (2 * num_threads)));
  }
  return ranges;
}

class CpuVector : public Weight {
 public:
  explicit CpuVector(std::vector<float> values) : values_(std::move(values)) {}
  int64_t rows() const override { return 1; }
  int64_t cols() const override { return static_cast<int64_t>(values_.size()); }
  size_t size_bytes() const override { return values_.size() * sizeof(float); }
  const float* data() const { return values_.data(); }

 private:
  std::vector<float> values_;
};

struct CpuRope : public Weight {
  int64_t rows() const override { return 1; }
  int64_t cols() const override { return static_cast<int64_t>(inverse_frequency.size()); }
  size_t size_bytes() const override { return inverse_frequency.size() * sizeof(float); }
  std::vector<float> inverse_frequency;
  RopeTable table;  // points into it
};

// Heap memory of the model: KV storage, activations.
class CpuBuffer : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<uint8_t> memory, size_t size)
      : memory_(std::move(memory)), size_(size) {}
  void* data() override { return memory_.get(); }
  size_t size_bytes() const override { return size_; }

 private:
  std::shared_ptr<uint8_t> memory_;
  size_t size_;
};

float* Row(const Tensor& t, int64_t row) { return static_cast<float*>(t.data) + row * t.cols; }

const CpuMatrix& AsMatrix(const Weight& w) { return static_cast<const CpuMatrix&>(w); }
const CpuVector& AsVector(const Weight& w) { return static_cast<const CpuVector&>(w); }

class CpuBackend : public Backend {
 public:
  CpuBackend(const cpu::Kernels& kernels, const CpuBackendOptions& options, int num_threads)
      : kernels_(kernels),
        pool_({.num_threads = num_threads, .pin = options.pin_threads}),
        arena_(options.huge_pages),
        packed_(options.packed) {}

  std::string Describe() const override {
    return StrCat("cpu (", kernels_.name, ", ", pool_.num_threads(), " threads)");
  }

  // ---- Load time.

  absl::StatusOr<std::unique_ptr<Weight>> PrepareMatrix(
      absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) override {
    TRIREME_RETURN_IF_ERROR(CheckParts(parts, bias));
    auto matrix = std::make_unique<CpuMatrix>();
    for (const TensorView& part : parts) {
      const PackedMatrix packed = cpu::PlanMatrix(part.dtype, part.rows(), part.cols());
      matrix->parts.push_back({packed, matrix->num_rows, matrix->num_panels});
      matrix->num_rows += part.rows();
      matrix->num_panels += packed.num_panels;
      matrix->num_bytes += packed.size_bytes();
      matrix->quantized |= IsQuantized(part.dtype);
    }
    matrix->panel_ranges = PanelRanges(matrix->num_panels, pool_.num_threads());
    const auto parallel = [this](int n, const std::function<void(int)>& fn) { ParallelFor(n, fn); };
    if (packed_ != nullptr) matrix->storage = packed_->Find(parts, matrix->num_bytes, parallel);
    const bool found = matrix->storage != nullptr;
    if (!found) {
      TRIREME_ASSIGN_OR_RETURN(matrix->storage, arena_.Allocate(matrix->num_bytes));
    }
    uint8_t* next = matrix->storage.get();
    for (size_t i = 0; i < parts.size(); ++i) {
      PackedMatrix& packed = matrix->parts[i].packed;
      packed.data = next;
      next += packed.size_bytes();
      if (found) continue;
      const TensorView& source = parts[i];
      pool_.For(packed.num_panels, 1, [&](int64_t begin, int64_t end, int) {
        cpu::PackPanels(source.data, source.row_bytes(), begin, end, packed);
      });
    }
    if (!found && packed_ != nullptr) packed_->Add(parts, matrix->storage, matrix->num_bytes);
    for (const TensorView& b : bias) {
      const size_t first = matrix->bias.size();
      matrix->bias.resize(first + b.num_elements());
      DequantizeRow(b.dtype, b.data, b.num_elements(), matrix->bias.data() + first);
    }
    return matrix;
  }

  absl::StatusOr<std::unique_ptr<Weight>> PrepareEmbedding(const TensorView& table,
                                                           int64_t first_token) override {
    TRIREME_CHECK(first_token == 0);  // there is one rank
    return PrepareMatrix({&table, 1}, {});
  }

  absl::StatusOr<std::unique_ptr<Weight>> PrepareVector(const TensorView& vector) override {
    std::vector<float> values(vector.num_elements());
    DequantizeRow(vector.dtype, vector.data, vector.num_elements(), values.data());
    return std::make_unique<CpuVector>(std::move(values));
  }

  absl::StatusOr<std::unique_ptr<Weight>> PrepareRope(const RopeTable& table) override {
    auto rope = std::make_unique<CpuRope>();
    rope->inverse_frequency.assign(table.inverse_frequency,
                                   table.inverse_frequency + table.rotary_dim / 2);
    rope->table = table;
    rope->table.inverse_frequency = rope->inverse_frequency.data();
    return rope;
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    // A chunk of its own, so that it goes back to the system with the buffer.
    WeightArena arena(true);
    TRIREME_ASSIGN_OR_RETURN(auto memory, arena.Allocate(bytes));
    return std::make_unique<CpuBuffer>(std::move(memory), bytes);
  }

  absl::StatusOr<std::unique_ptr<Buffer>> AllocateReadable(size_t bytes) override {
    return Allocate(bytes);
  }

  absl::Status Reserve(const StepLimits&) override { return absl::OkStatus(); }
  DType activation_dtype() const override { return DType::kF32; }

  absl::Span<const DType> kv_dtypes() const override {
    static constexpr DType kTypes[] = {DType::kF16, DType::kBF16, DType::kF32};
    return kTypes;
  }

  FreeMemory Memory() const override {
    std::optional<int64_t> bytes = AvailableMemoryBytes();
    // Mapped weights count as a cache that could go: they are read in every step.
    if (bytes && packed_ != nullptr) {
      bytes = std::max<int64_t>(0, *bytes - packed_->mapped_bytes());
    }
    return {bytes};
  }

  // ---- Step time.

  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override {
    SetBatch(batch);
    quantized_ = nullptr;
    forward(static_cast<int>(tokens_.size()), static_cast<int>(logit_tokens_.size()));
  }

  void Embed(const Weight& table, float scale, Tensor x) override {
    const PackedMatrix& packed = AsMatrix(table).parts[0].packed;
    quantized_ = nullptr;
    ForRows(x, [&](int64_t row) {
      float* out = Row(x, row);
      cpu::UnpackRow(packed, tokens_[row], out);
      if (scale != 1.0f) {
        for (int64_t i = 0; i < x.cols; ++i) out[i] *= scale;
      }
    });
  }

  void RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) override {
    const float* g = AsVector(gain).data();
    BeginQuantized(y);
    ForRows(x, [&](int64_t i) {
      kernels_.rms_norm(Row(x, i), g, eps, x.cols, Row(y, i));
      QuantizeRow(y, i);
    });
  }

  void AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps, Tensor y) override {
    const float* g = AsVector(gain).data();
    BeginQuantized(y);
    ForRows(x, [&](int64_t i) {
      kernels_.add_rms_norm(Row(x, i), Row(delta, i), g, eps, x.cols, Row(y, i));
      QuantizeRow(y, i);
    });
  }

  void MatMul(const Weight& w, Tensor x, Tensor y) override {
    const CpuMatrix& matrix = AsMatrix(w);
    TRIREME_DCHECK(x.cols == matrix.cols() && y.cols == matrix.rows() && x.rows == y.rows);
    const bool ready = std::exchange(quantized_, nullptr) == x.data;
    quantizes_ |= matrix.quantized;
    if (matrix.quantized && !ready) Quantize(x);
    const std::vector<int64_t>& ranges = matrix.panel_ranges;
    pool_.For(static_cast<int64_t>(ranges.size()) - 1, 1, [&](int64_t i, int64_t, int) {
      for (const CpuMatrix::Part& part : matrix.parts) {
        MatMulPart(matrix, part, ranges[i] - part.first_panel, ranges[i + 1] - part.first_panel, x,
                   y);
      }
    });
  }

  void RopeAndStoreKv(const Weight& table, int num_heads, const KvLayerView& kv,
                      Tensor qkv) override {
    TRIREME_DCHECK(kv.HasValidStride());
    const RopeTable& rope = static_cast<const CpuRope&>(table).table;
    const int64_t q_size = static_cast<int64_t>(num_heads) * kv.head_dim;
    const int64_t kv_size = static_cast<int64_t>(kv.num_kv_heads) * kv.head_dim;
    quantized_ = nullptr;
    ForRows(qkv, [&](int64_t i) {
      const SequenceSlice& sequence = sequences_[sequence_of_[i]];
      const int64_t position = sequence.first_position + i - sequence.first_token;
      float* q = Row(qkv, i);
      float* k = q + q_size;
      kernels_.rope(rope, position, num_heads, kv.head_dim, q);
      kernels_.rope(rope, position, kv.num_kv_heads, kv.head_dim, k);
      kernels_.store_kv(kv, sequence.blocks[position / kv.block_size],
                        static_cast<int>(position % kv.block_size), k, k + kv_size);
    });
  }

  void Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                 Tensor out) override {
    quantized_ = nullptr;
    const int64_t scratch_bytes = (kernels_.attention_scratch_bytes(params, kv) + 63) / 64 * 64;
    attention_scratch_.resize(std::max(
        attention_scratch_.size(), static_cast<size_t>(scratch_bytes * pool_.num_threads() / 64)));
    const int group = params.num_heads / kv.num_kv_heads;  // query heads that share a KV head
    const auto num_items = static_cast<int64_t>(attention_items_.size()) * kv.num_kv_heads;
    pool_.For(num_items, 1, [&](int64_t begin, int64_t, int thread) {
      // From the last: late tokens of a prompt see the longest context, and long items first
      // balance best.
      const int64_t index = num_items - 1 - begin;
      const AttentionItem& item = attention_items_[index / kv.num_kv_heads];
      const int head = static_cast<int>(index % kv.num_kv_heads) * group;
      const SequenceSlice& sequence = sequences_[item.sequence];
      const int64_t row = sequence.first_token + item.first;
      kernels_.attention(params, kv, sequence.blocks, sequence.first_position + item.first,
                         item.count, head, head + group, Row(qkv, row), qkv.cols, Row(out, row),
                         out.cols, attention_scratch_.data() + thread * scratch_bytes / 64);
    });
  }

  void GatedActivation(Activation act, Tensor gate_up, Tensor out) override {
    BeginQuantized(out);
    ForRows(gate_up, [&](int64_t i) {
      const float* gate = Row(gate_up, i);
      kernels_.gated_activation(act, gate, gate + out.cols, out.cols, Row(out, i));
      QuantizeRow(out, i);
    });
  }

  void GatherLogitRows(Tensor x, Tensor y) override {
    quantized_ = nullptr;
    for (size_t i = 0; i < logit_tokens_.size(); ++i) {
      std::memcpy(Row(y, static_cast<int64_t>(i)), Row(x, logit_tokens_[i]),
                  x.cols * sizeof(float));
    }
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

  void ParallelFor(int n, const std::function<void(int)>& fn) override {
    pool_.For(n, 1, [&](int64_t begin, int64_t, int) { fn(static_cast<int>(begin)); });
  }

 private:
  struct AttentionItem {
    int sequence;
    int first, count;  // query tokens, counted from the sequence's first
  };
  struct alignas(64) CacheLine {
    uint8_t bytes[64];
  };

  void SetBatch(const BatchView& batch) {
    tokens_.assign(batch.tokens.begin(), batch.tokens.end());
    logit_tokens_.assign(batch.logit_tokens.begin(), batch.logit_tokens.end());
    sequences_.clear();
    sequence_of_.assign(tokens_.size(), 0);
    attention_items_.clear();
    size_t num_blocks = 0;
    for (const SequenceSlice& s : batch.sequences) num_blocks += s.blocks.size();
    blocks_.resize(num_blocks);
    BlockId* next = blocks_.data();
    for (const SequenceSlice& s : batch.sequences) {
      const int index = static_cast<int>(sequences_.size());
      sequences_.push_back(s);
      sequences_.back().blocks = absl::MakeConstSpan(next, s.blocks.size());
      next = std::copy(s.blocks.begin(), s.blocks.end(), next);
      std::fill_n(sequence_of_.begin() + s.first_token, s.num_tokens, index);
      for (int t = 0; t < s.num_tokens; t += kAttentionTokens) {
        attention_items_.push_back({index, t, std::min(kAttentionTokens, s.num_tokens - t)});
      }
    }
  }

  // fn(i) for every row of x, several rows at a time per thread.
  template <typename F>
  void ForRows(const Tensor& x, F fn) {
    const int64_t grain = std::max<int64_t>({1, kRowGrainElements / std::max<int64_t>(1, x.cols),
                                             x.rows / (kRowRanges * pool_.num_threads())});
    pool_.For(x.rows, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    });
  }

  // What the next MatMul is likely to read, an operator quantises row by row while it has the row
  // in its cache: behind BeginQuantized(x), QuantizeRow(x, i) for all rows. Both do nothing until a
  // quantised matrix was multiplied.
  void BeginQuantized(const Tensor& x) {
    quantized_ = nullptr;
    if (!quantizes_ || x.cols % kBlock != 0) return;
    quantized_ = x.data;
    const auto blocks = static_cast<size_t>(x.rows * (x.cols / kBlock));
    activations_.resize(std::max(activations_.size(), blocks));
  }
  void QuantizeRow(const Tensor& x, int64_t i) {
    if (quantized_ != x.data) return;
    kernels_.quantize_activation(Row(x, i), x.cols, activations_.data() + i * (x.cols / kBlock));
  }
  void Quantize(const Tensor& x) {
    BeginQuantized(x);
    ForRows(x, [&](int64_t i) { QuantizeRow(x, i); });
    quantized_ = nullptr;
  }

  // The panels of [begin, end) that the part has.
  void MatMulPart(const CpuMatrix& matrix, const CpuMatrix::Part& part, int64_t begin, int64_t end,
                  const Tensor& x, const Tensor& y) const {
    begin = std::max<int64_t>(begin, 0);
    end = std::min(end, part.packed.num_panels);
    if (begin >= end) return;
    const float* bias = matrix.bias.empty() ? nullptr : matrix.bias.data() + part.first_row;
    const bool quantized = IsQuantized(part.packed.source);
    const void* activations = quantized ? static_cast<const void*>(activations_.data()) : x.data;
    const int64_t stride =
        quantized ? x.cols / kBlock * sizeof(ActivationBlock) : x.cols * sizeof(float);
    kernels_.matmul(part.packed, activations, stride, x.rows, bias, begin, end,
                    static_cast<float*>(y.data) + part.first_row, y.cols);
  }

  const cpu::Kernels& kernels_;
  ComputePool pool_;
  WeightArena arena_;
  const std::shared_ptr<PackedWeights> packed_;  // null: every matrix is packed

  // The current step. Vectors keep their capacity: steady state allocates nothing.
  std::vector<TokenId> tokens_;
  std::vector<int32_t> logit_tokens_;
  std::vector<SequenceSlice> sequences_;  // their blocks point into blocks_
  std::vector<BlockId> blocks_;
  std::vector<int> sequence_of_;  // [tokens]
  std::vector<AttentionItem> attention_items_;
  std::vector<ActivationBlock> activations_;  // of the MatMul to come
  bool quantizes_ = false;                    // a matrix has read them
  const void* quantized_ = nullptr;  // Tensor::data of what they hold, until the next operator
  std::vector<CacheLine> attention_scratch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        StrCat("threads must be between 0 and ", kMaxThreads, ", not ", options.num_threads));
  }
  const cpu::Kernels* kernels =
      options.isa.empty() ? &cpu::BestKernels() : cpu::FindKernels(options.isa);
  if (kernels == nullptr) {
    return absl::InvalidArgumentError(
        StrCat("this CPU has no instruction set called ", options.isa));
  }
  const int num_threads = options.num_threads > 0 ? options.num_threads : AvailableCpus();
  return std::make_unique<CpuBackend>(*kernels, options, num_threads);
}

}  // namespace trireme
