#include "kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace trireme::reference {
namespace {

int64_t KeyIndex(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d) {
  return block * kv.block_stride + (int64_t{kv_head} * kv.head_dim + d) * kv.block_size + slot;
}

int64_t ValueIndex(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d) {
  return block * kv.block_stride + (int64_t{kv_head} * kv.block_size + slot) * kv.head_dim + d;
}

double LoadElement(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return dtype == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

void StoreElement(float x, void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[i] = x;
  } else {
    static_cast<uint16_t*>(data)[i] = dtype == DType::kF16 ? FloatToF16(x) : FloatToBF16(x);
  }
}

// One query head at `position`. q, out: [head_dim].
void AttendOne(const AttentionParams& params, const KvLayerView& kv,
               absl::Span<const BlockId> blocks, int64_t position, int head, const float* q,
               double* out) {
  const int kv_head = head / (params.num_heads / kv.num_kv_heads);
  const int64_t first = params.window > 0 ? std::max<int64_t>(0, position - params.window + 1) : 0;
  std::vector<double> scores;
  for (int64_t p = first; p <= position; ++p) {
    double dot = 0;
    for (int d = 0; d < kv.head_dim; ++d) {
      dot += q[d] * KeyAt(kv, blocks[p / kv.block_size], p % kv.block_size, kv_head, d);
    }
    double score = dot * params.scale;
    if (params.soft_cap > 0) score = params.soft_cap * std::tanh(score / params.soft_cap);
    scores.push_back(score);
  }
  double max = *std::max_element(scores.begin(), scores.end());
  if (params.sinks != nullptr) max = std::max<double>(max, params.sinks[head]);
  double sum = params.sinks != nullptr ? std::exp(params.sinks[head] - max) : 0;
  std::fill(out, out + kv.head_dim, 0.0);
  for (int64_t p = first; p <= position; ++p) {
    const double weight = std::exp(scores[p - first] - max);
    sum += weight;
    for (int d = 0; d < kv.head_dim; ++d) {
      out[d] += weight * ValueAt(kv, blocks[p / kv.block_size], p % kv.block_size, kv_head, d);
    }
  }
  for (int d = 0; d < kv.head_dim; ++d) out[d] /= sum;
}

}  // namespace

void MatMul(const float* x, const float* w, const float* bias, int64_t num_tokens, int64_t rows,
            int64_t cols, double* y) {
  for (int64_t i = 0; i < num_tokens; ++i) {
    for (int64_t n = 0; n < rows; ++n) {
      double sum = bias != nullptr ? bias[n] : 0.0;
      for (int64_t k = 0; k < cols; ++k)
        sum += static_cast<double>(x[i * cols + k]) * w[n * cols + k];
      y[i * rows + n] = sum;
    }
  }
}

void RmsNorm(const float* x, const float* gain, float eps, int64_t n, double* y) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double root = std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / root * gain[i];
}

void AddRmsNorm(const float* x, const float* delta, const float* gain, float eps, int64_t n,
                float* sum, double* y) {
  for (int64_t i = 0; i < n; ++i) sum[i] = x[i] + delta[i];
  RmsNorm(sum, gain, eps, n, y);
}

double Activate(Activation act, double x) {
  switch (act) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  }
  return 0;
}

void GatedActivation(Activation act, const float* gate, const float* up, int64_t n, double* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = Activate(act, gate[i]) * up[i];
}

void Rope(const RopeTable& table, int64_t position, int num_heads, int head_dim, const float* x,
          double* y) {
  std::copy(x, x + int64_t{num_heads} * head_dim, y);
  for (int h = 0; h < num_heads; ++h) {
    for (int i = 0; i < table.rotary_dim / 2; ++i) {
      const int64_t base = int64_t{h} * head_dim;
      const int64_t a = base + (table.interleaved ? 2 * i : i);
      const int64_t b = base + (table.interleaved ? 2 * i + 1 : i + table.rotary_dim / 2);
      const double angle = static_cast<double>(position) * table.inverse_frequency[i];
      y[a] = (x[a] * std::cos(angle) - x[b] * std::sin(angle)) * table.magnitude;
      y[b] = (x[a] * std::sin(angle) + x[b] * std::cos(angle)) * table.magnitude;
    }
  }
}

void StoreKv(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  for (int h = 0; h < kv.num_kv_heads; ++h) {
    for (int d = 0; d < kv.head_dim; ++d) {
      const int64_t i = int64_t{h} * kv.head_dim + d;
      StoreElement(k[i], kv.k, kv.dtype, KeyIndex(kv, block, slot, h, d));
      StoreElement(v[i], kv.v, kv.dtype, ValueIndex(kv, block, slot, h, d));
    }
  }
}

double KeyAt(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d) {
  return LoadElement(kv.k, kv.dtype, KeyIndex(kv, block, slot, kv_head, d));
}

double ValueAt(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d) {
  return LoadElement(kv.v, kv.dtype, ValueIndex(kv, block, slot, kv_head, d));
}

void Attention(const AttentionParams& params, const KvLayerView& kv,
               absl::Span<const BlockId> blocks, int64_t first_position, int64_t num_tokens,
               const float* q, int64_t q_stride, double* out) {
  for (int64_t i = 0; i < num_tokens; ++i) {
    for (int h = 0; h < params.num_heads; ++h) {
      const int64_t head_offset = int64_t{h} * kv.head_dim;
      AttendOne(params, kv, blocks, first_position + i, h, q + i * q_stride + head_offset,
                out + i * params.num_heads * kv.head_dim + head_offset);
    }
  }
}

}  // namespace trireme::reference
