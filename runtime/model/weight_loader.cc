#include "runtime/model/weight_loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

std::string BiasName(const std::string& weight) {
  return StrCat(weight.substr(0, weight.size() - std::string_view("weight").size()), "bias");
}

TensorView ViewOf(const std::vector<float>& values) {
  TensorView view;
  view.data = values.data();
  view.shape = {static_cast<int64_t>(values.size())};
  return view;
}

}  // namespace

absl::StatusOr<TensorView> WeightLoader::Find(const std::string& name,
                                              const absl::InlinedVector<int64_t, 4>& shape) {
  auto tensor = checkpoint_.Find(name);
  if (!tensor.ok()) return absl::InvalidArgumentError(StrCat("tensor ", name, " is missing"));
  if (tensor->shape != shape) {
    return absl::InvalidArgumentError(
        StrCat("tensor ", name, " is [", absl::StrJoin(tensor->shape, ", "), "]; the model wants [",
               absl::StrJoin(shape, ", "), "]"));
  }
  if (used_.insert(name).second) used_bytes_ += tensor->size_bytes();
  return tensor;
}

absl::StatusOr<std::vector<float>> WeightLoader::FindVector(const std::string& name, int64_t size) {
  TRIREME_ASSIGN_OR_RETURN(const TensorView tensor, Find(name, {size}));
  if (backend_ == nullptr) return std::vector<float>();
  std::vector<float> values(static_cast<size_t>(size));
  DequantizeRow(tensor.dtype, tensor.data, size, values.data());
  return values;
}

void WeightLoader::Report() const {
  if (progress_) progress_(used_bytes_, checkpoint_.size_bytes());
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Matrix(const std::vector<Part>& parts,
                                                             int64_t cols, bool bias) {
  std::vector<TensorView> views, bias_views;
  std::vector<std::vector<float>> biases;
  for (const Part& part : parts) {
    TRIREME_ASSIGN_OR_RETURN(TensorView view, Find(part.name, {part.rows, cols}));
    views.push_back(std::move(view));
    if (!bias) continue;
    TRIREME_ASSIGN_OR_RETURN(auto values, FindVector(BiasName(part.name), part.rows));
    biases.push_back(std::move(values));
  }
  if (backend_ == nullptr) return nullptr;
  for (const std::vector<float>& values : biases) bias_views.push_back(ViewOf(values));
  auto weight = backend_->PrepareMatrix(views, bias_views);
  if (!weight.ok()) return Annotate(weight.status(), StrCat("tensor ", parts.front().name));
  for (const TensorView& view : views) checkpoint_.Release(view);
  Report();
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Embedding(const std::string& name,
                                                                int64_t rows, int64_t cols) {
  TRIREME_ASSIGN_OR_RETURN(const TensorView view, Find(name, {rows, cols}));
  if (backend_ == nullptr) return nullptr;
  auto weight = backend_->PrepareEmbedding(view);
  if (!weight.ok()) return Annotate(weight.status(), StrCat("tensor ", name));
  checkpoint_.Release(view);
  Report();
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Vector(const std::string& name, int64_t size,
                                                             float scale) {
  TRIREME_ASSIGN_OR_RETURN(std::vector<float> values, FindVector(name, size));
  if (backend_ == nullptr) return nullptr;
  for (float& value : values) value *= scale;
  auto weight = backend_->PrepareVector(ViewOf(values));
  if (!weight.ok()) return Annotate(weight.status(), StrCat("tensor ", name));
  Report();
  return weight;
}

absl::Status WeightLoader::Finish(const std::vector<std::string>& unused_suffixes) {
  for (const std::string& name : checkpoint_.Names()) {
    const bool expected = used_.contains(name) ||
                          std::any_of(unused_suffixes.begin(), unused_suffixes.end(),
                                      [&](const std::string& s) { return name.ends_with(s); });
    if (!expected) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", Printable(name), " has no place in this model"));
    }
  }
  return checkpoint_.Health();
}

}  // namespace trireme
