#include "tests/fakes/reference_decoder.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_replace.h"
#include "runtime/base/check.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/strings.h"
#include "runtime/model/rope.h"

namespace trireme::fakes {
namespace {

using Row = std::vector<double>;

class Reference {
 public:
  Reference(const DecoderSpec& spec, const Checkpoint& checkpoint)
      : spec_(spec),
        checkpoint_(checkpoint),
        frequency_(InverseFrequencies(spec.rope, spec.head_dim)) {}

  std::vector<Row> Run(absl::Span<const TokenId> tokens) {
    std::vector<Row> x;
    const std::vector<Row> embedding = Matrix(spec_.names.embedding);
    for (const TokenId token : tokens) {
      x.push_back(embedding.at(static_cast<size_t>(token)));
      for (double& value : x.back()) value *= spec_.embedding_scale;
    }
    for (layer_ = 0; layer_ < spec_.num_layers; ++layer_) {
      AttentionBlock(&x);
      MlpBlock(&x);
    }
    std::vector<Row> logits;
    const std::string& head = spec_.tied_embeddings ? spec_.names.embedding : spec_.names.lm_head;
    for (const Row& row : x) {
      logits.push_back(Project(head, false, Normalized(spec_.names.final_norm, row)));
      for (double& value : logits.back()) value *= spec_.logit_scale;
    }
    return logits;
  }

 private:
  std::vector<Row> Matrix(const std::string& pattern) const {
    const auto view = checkpoint_.Find(absl::StrReplaceAll(pattern, {{"{}", StrCat(layer_)}}));
    TRIREME_CHECK(view.ok());
    std::vector<Row> rows;
    std::vector<float> row(static_cast<size_t>(view->cols()));
    for (int64_t r = 0; r < view->rows(); ++r) {
      DequantizeRow(view->dtype, static_cast<const uint8_t*>(view->data) + r * view->row_bytes(),
                    view->cols(), row.data());
      rows.emplace_back(row.begin(), row.end());
    }
    return rows;
  }

  // W x + b.
  Row Project(const std::string& name, bool bias, const Row& x) const {
    Row y;
    for (const Row& row : Matrix(name)) {
      double sum = 0;
      for (size_t i = 0; i < row.size(); ++i) sum += row[i] * x[i];
      y.push_back(sum);
    }
    if (bias) Add(Matrix(absl::StrReplaceAll(name, {{"weight", "bias"}})).front(), &y);
    return y;
  }

  Row Normalized(const std::string& name, const Row& x) const {
    const Row gain = Matrix(name).front();
    double sum = 0;
    for (const double value : x) sum += value * value;
    const double scale =
        1 / std::sqrt(sum / static_cast<double>(x.size()) + static_cast<double>(spec_.norm_eps));
    Row y;
    for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * scale * gain[i]);
    return y;
  }

  static void Add(const Row& delta, Row* x) {
    for (size_t i = 0; i < delta.size(); ++i) (*x)[i] += delta[i];
  }

  void Rotate(size_t position, Row* x) const {
    const auto half = frequency_.size();
    const size_t head_dim = static_cast<size_t>(spec_.head_dim);
    for (size_t head = 0; head < x->size(); head += head_dim) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * static_cast<double>(frequency_[i]);
        double& a = (*x)[head + (spec_.rope.interleaved ? 2 * i : i)];
        double& b = (*x)[head + (spec_.rope.interleaved ? 2 * i + 1 : i + half)];
        const double rotated_a = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = rotated_a;
      }
    }
  }

  // Of one head of the query at position p, over keys and values [0, p].
  Row Attend(const Row& q, size_t head, const std::vector<Row>& k, const std::vector<Row>& v,
             size_t p) const {
    const auto dim = static_cast<size_t>(spec_.head_dim);
    const size_t kv_head = head / static_cast<size_t>(spec_.num_heads / spec_.num_kv_heads);
    const double scale = spec_.attention_scale != 0 ? static_cast<double>(spec_.attention_scale)
                                                    : 1 / std::sqrt(static_cast<double>(dim));
    const auto window = static_cast<size_t>(spec_.sliding_window);
    const size_t first = window != 0 && p + 1 > window ? p + 1 - window : 0;
    Row weights;
    double sum = 0, top = -HUGE_VAL;
    for (size_t j = first; j <= p; ++j) {
      double score = 0;
      for (size_t i = 0; i < dim; ++i) score += q[head * dim + i] * k[j][kv_head * dim + i];
      score *= scale;
      const auto cap = static_cast<double>(spec_.attention_soft_cap);
      weights.push_back(cap != 0 ? cap * std::tanh(score / cap) : score);
      top = std::max(top, weights.back());
    }
    for (double& weight : weights) sum += weight = std::exp(weight - top);
    Row out(dim, 0.0);
    for (size_t j = first; j <= p; ++j) {
      for (size_t i = 0; i < dim; ++i) out[i] += weights[j - first] / sum * v[j][kv_head * dim + i];
    }
    return out;
  }

  void AttentionBlock(std::vector<Row>* x) const {
    std::vector<Row> q, k, v;
    for (size_t p = 0; p < x->size(); ++p) {
      const Row h = Normalized(spec_.names.attention_norm, (*x)[p]);
      q.push_back(Project(spec_.names.q, spec_.qkv_bias, h));
      k.push_back(Project(spec_.names.k, spec_.qkv_bias, h));
      v.push_back(Project(spec_.names.v, spec_.qkv_bias, h));
      Rotate(p, &q.back());
      Rotate(p, &k.back());
    }
    for (size_t p = 0; p < x->size(); ++p) {
      Row all;
      for (size_t head = 0; head < static_cast<size_t>(spec_.num_heads); ++head) {
        const Row out = Attend(q[p], head, k, v, p);
        all.insert(all.end(), out.begin(), out.end());
      }
      Add(Project(spec_.names.out, spec_.out_bias, all), &(*x)[p]);
    }
  }

  double Activate(double x) const {
    switch (spec_.activation) {
      case Activation::kSilu:
        return x / (1 + std::exp(-x));
      case Activation::kGelu:
        return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
      case Activation::kGeluTanh:
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return x;
  }

  void MlpBlock(std::vector<Row>* x) const {
    for (Row& row : *x) {
      const Row h = Normalized(spec_.names.mlp_norm, row);
      Row gate = Project(spec_.names.gate, spec_.mlp_bias, h);
      const Row up = Project(spec_.names.up, spec_.mlp_bias, h);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = Activate(gate[i]) * up[i];
      Add(Project(spec_.names.down, spec_.mlp_bias, gate), &row);
    }
  }

  const DecoderSpec& spec_;
  const Checkpoint& checkpoint_;
  const std::vector<float> frequency_;
  int layer_ = 0;
};

}  // namespace

std::vector<std::vector<double>> ReferenceLogits(const DecoderSpec& spec,
                                                 const Checkpoint& checkpoint,
                                                 absl::Span<const TokenId> tokens) {
  return Reference(spec, checkpoint).Run(tokens);
}

}  // namespace trireme::fakes
