#include "tests/fakes/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/reference/reference.h"
#include "runtime/base/check.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::fakes {
namespace {

struct HostWeight : public Weight {
  int64_t rows() const override { return num_rows; }
  int64_t cols() const override { return num_cols; }
  size_t size_bytes() const override { return (values.size() + bias.size()) * sizeof(float); }

  int64_t num_rows = 0, num_cols = 0;
  int64_t first_token = 0;  // of an embedding
  bool quantized = false;
  std::vector<float> values, bias;
};

struct HostRope : public Weight {
  int64_t rows() const override { return 1; }
  int64_t cols() const override { return static_cast<int64_t>(frequencies.size()); }
  size_t size_bytes() const override { return frequencies.size() * sizeof(float); }

  std::vector<float> frequencies;
  RopeTable table;  // points into them
};

struct HostBuffer : public Buffer {
  explicit HostBuffer(size_t size) : bytes(size, 0xff) {}  // NaN: nobody may count on zeros
  void* data() override { return bytes.data(); }
  size_t size_bytes() const override { return bytes.size(); }

  std::vector<uint8_t> bytes;
};

const HostWeight& Host(const Weight& weight) { return static_cast<const HostWeight&>(weight); }

float* RowOf(const Tensor& t, int64_t row) {
  TRIREME_CHECK(t.dtype == DType::kF32 && row >= 0 && row < t.rows);
  return static_cast<float*>(t.data) + row * t.cols;
}

void Round(const std::vector<double>& values, float* out) {
  for (size_t i = 0; i < values.size(); ++i) out[i] = static_cast<float>(values[i]);
}

void Append(const TensorView& view, std::vector<float>* values) {
  const size_t begin = values->size();
  values->resize(begin + static_cast<size_t>(view.num_elements()));
  for (int64_t row = 0; row < view.rows(); ++row) {
    DequantizeRow(view.dtype, static_cast<const uint8_t*>(view.data) + row * view.row_bytes(),
                  view.cols(), values->data() + begin + static_cast<size_t>(row * view.cols()));
  }
}

std::vector<float> RoundedToInt8(const float* x, int64_t n) {
  std::vector<float> rounded;
  for (int64_t i = 0; i < n; i += 32) {
    float largest = 0;
    for (int64_t j = i; j < i + 32; ++j) largest = std::max(largest, std::fabs(x[j]));
    const float step = largest / 127;
    for (int64_t j = i; j < i + 32; ++j) {
      rounded.push_back(step == 0 ? 0 : std::nearbyint(x[j] / step) * step);
    }
  }
  return rounded;
}

}  // namespace

absl::Status ReferenceBackend::Take(size_t bytes) {
  if (bytes > bytes_left_) {
    return absl::ResourceExhaustedError(
        StrCat(bytes, " bytes are needed, ", bytes_left_, " are free"));
  }
  bytes_left_ -= bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Weight>> ReferenceBackend::PrepareMatrix(
    absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) {
  auto weight = std::make_unique<HostWeight>();
  weight->num_cols = parts.front().cols();
  for (const TensorView& part : parts) {
    TRIREME_CHECK(part.cols() == weight->num_cols);
    weight->num_rows += part.rows();
    weight->quantized |= IsQuantized(part.dtype);
    Append(part, &weight->values);
  }
  for (const TensorView& part : bias) Append(part, &weight->bias);
  TRIREME_RETURN_IF_ERROR(Take(weight->size_bytes()));
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> ReferenceBackend::PrepareEmbedding(const TensorView& table,
                                                                           int64_t first_token) {
  TRIREME_ASSIGN_OR_RETURN(auto weight, PrepareMatrix({&table, 1}, {}));
  static_cast<HostWeight&>(*weight).first_token = first_token;
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> ReferenceBackend::PrepareVector(const TensorView& vector) {
  return PrepareMatrix({&vector, 1}, {});
}

absl::StatusOr<std::unique_ptr<Buffer>> ReferenceBackend::Allocate(size_t bytes) {
  TRIREME_RETURN_IF_ERROR(Take(bytes));
  return std::make_unique<HostBuffer>(bytes);
}

absl::StatusOr<std::unique_ptr<Weight>> ReferenceBackend::PrepareRope(const RopeTable& table) {
  auto rope = std::make_unique<HostRope>();
  rope->frequencies.assign(table.inverse_frequency, table.inverse_frequency + table.rotary_dim / 2);
  rope->table = table;
  rope->table.inverse_frequency = rope->frequencies.data();
  return rope;
}

void ReferenceBackend::Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) {
  batch_ = batch;
  forward(static_cast<int>(batch.tokens.size()), static_cast<int>(batch.logit_tokens.size()));
}

void ReferenceBackend::Embed(const Weight& table, float scale, Tensor x) {
  const HostWeight& weight = Host(table);
  for (int64_t i = 0; i < x.rows; ++i) {
    const int64_t row = batch_.tokens[static_cast<size_t>(i)] - weight.first_token;
    const bool mine = row >= 0 && row < weight.num_rows;
    TRIREME_CHECK(mine || exchange_ != nullptr);
    for (int64_t d = 0; d < x.cols; ++d) {
      RowOf(x, i)[d] = mine ? scale * weight.values[static_cast<size_t>(row * x.cols + d)] : 0;
    }
  }
  Sum(x);
}

void ReferenceBackend::Sum(Tensor x) const {
  if (exchange_ == nullptr) return;
  float* const values = RowOf(x, 0);
  const auto all = exchange_->All(rank_, {values, values + x.rows * x.cols});
  for (size_t i = 0; i < all[0].size(); ++i) {
    double sum = 0;
    for (const auto& share : all) sum += share[i];
    values[i] = static_cast<float>(sum);
  }
}

void ReferenceBackend::RmsNorm(Tensor x, const Weight& gain, float eps, Tensor y) {
  std::vector<double> row(static_cast<size_t>(x.cols));
  for (int64_t i = 0; i < x.rows; ++i) {
    reference::RmsNorm(RowOf(x, i), Host(gain).values.data(), eps, x.cols, row.data());
    Round(row, RowOf(y, i));
  }
}

void ReferenceBackend::AddRmsNorm(Tensor x, Tensor delta, const Weight& gain, float eps, Tensor y) {
  Sum(delta);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t d = 0; d < x.cols; ++d) RowOf(x, i)[d] += RowOf(delta, i)[d];
  }
  RmsNorm(x, gain, eps, y);
}

void ReferenceBackend::MatMul(const Weight& w, Tensor x, Tensor y) {
  const HostWeight& weight = Host(w);
  TRIREME_CHECK(x.cols == weight.num_cols && y.cols == weight.num_rows && x.rows == y.rows);
  std::vector<double> out(static_cast<size_t>(y.cols));
  for (int64_t i = 0; i < x.rows; ++i) {
    std::vector<float> input(RowOf(x, i), RowOf(x, i) + x.cols);
    if (weight.quantized && int8_activations_) input = RoundedToInt8(input.data(), x.cols);
    reference::MatMul(input.data(), weight.values.data(),
                      weight.bias.empty() ? nullptr : weight.bias.data(), 1, y.cols, x.cols,
                      out.data());
    Round(out, RowOf(y, i));
  }
}

void ReferenceBackend::RopeAndStoreKv(const Weight& table, int num_heads, const KvLayerView& kv,
                                      Tensor qkv) {
  const RopeTable& rope = static_cast<const HostRope&>(table).table;
  const int rotated_heads = num_heads + kv.num_kv_heads;
  std::vector<double> rotated(static_cast<size_t>(rotated_heads * kv.head_dim));
  for (const SequenceSlice& sequence : batch_.sequences) {
    for (int i = 0; i < sequence.num_tokens; ++i) {
      const int64_t position = sequence.first_position + i;
      float* row = RowOf(qkv, sequence.first_token + i);
      reference::Rope(rope, position, rotated_heads, kv.head_dim, row, rotated.data());
      Round(rotated, row);
      const float* k = row + num_heads * kv.head_dim;
      reference::StoreKv(kv, sequence.blocks.at(static_cast<size_t>(position / kv.block_size)),
                         static_cast<int>(position % kv.block_size), k,
                         k + kv.num_kv_heads * kv.head_dim);
    }
  }
}

void ReferenceBackend::Attention(const AttentionParams& params, const KvLayerView& kv, Tensor qkv,
                                 Tensor out) {
  std::vector<double> rows;
  for (const SequenceSlice& sequence : batch_.sequences) {
    rows.resize(static_cast<size_t>(sequence.num_tokens * out.cols));
    reference::Attention(params, kv, sequence.blocks, sequence.first_position, sequence.num_tokens,
                         RowOf(qkv, sequence.first_token), qkv.cols, rows.data());
    Round(rows, RowOf(out, sequence.first_token));
  }
}

void ReferenceBackend::GatedActivation(Activation act, Tensor gate_up, Tensor out) {
  std::vector<double> row(static_cast<size_t>(out.cols));
  for (int64_t i = 0; i < out.rows; ++i) {
    const float* gate = RowOf(gate_up, i);
    reference::GatedActivation(act, gate, gate + out.cols, out.cols, row.data());
    Round(row, RowOf(out, i));
  }
}

void ReferenceBackend::GatherLogitRows(Tensor x, Tensor y) {
  for (int64_t i = 0; i < y.rows; ++i) {
    std::copy_n(RowOf(x, batch_.logit_tokens[static_cast<size_t>(i)]), x.cols, RowOf(y, i));
  }
}

void ReferenceBackend::Logits(const Weight& head, Tensor h, Tensor logits) {
  if (exchange_ == nullptr) return MatMul(head, h, logits);
  const auto rows = static_cast<size_t>(h.rows), cols = static_cast<size_t>(head.rows());
  std::vector<float> mine(rows * cols);
  MatMul(head, h, {mine.data(), DType::kF32, h.rows, head.rows()});
  const auto all = exchange_->All(rank_, std::move(mine));
  if (rank_ > 0) return;
  for (size_t i = 0; i < rows; ++i) {
    float* out = RowOf(logits, static_cast<int64_t>(i));
    for (const auto& part : all) {
      const auto width = static_cast<ptrdiff_t>(part.size() / rows);
      out = std::copy_n(part.begin() + static_cast<ptrdiff_t>(i) * width, width, out);
    }
  }
}

void ReferenceBackend::ParallelFor(int n, const std::function<void(int)>& fn) {
  for (int i = 0; i < n; ++i) fn(i);
}

}  // namespace trireme::fakes
