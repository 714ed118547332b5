#include "runtime/model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/check.h"
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

// Memory for what is not in the checkpoint as it is wanted: zeros, cut columns.
using Scratch = std::deque<std::vector<uint8_t>>;

TensorView MakeMatrix(DType dtype, int64_t rows, int64_t cols, Scratch* scratch) {
  TensorView view;
  view.dtype = dtype;
  view.shape = {rows, cols};
  view.data = scratch->emplace_back(static_cast<size_t>(rows * RowBytes(dtype, cols))).data();
  return view;
}

// The columns of every row, copied. As stored where the slices begin and end at blocks of the
// format, else as F32. Zeros are zeros in every format.
TensorView CutColumns(const TensorView& from, const Axis& cols, Scratch* scratch) {
  const int64_t block = BlockSize(from.dtype);
  const bool at_blocks =
      std::all_of(cols.slices.begin(), cols.slices.end(), [&](const Slice& slice) {
        return slice.first % block == 0 && slice.size % block == 0 && slice.padded % block == 0;
      });
  const TensorView to =
      MakeMatrix(at_blocks ? from.dtype : DType::kF32, from.rows(), cols.loaded(), scratch);
  auto* out = scratch->back().data();
  std::vector<float> values(at_blocks ? 0 : static_cast<size_t>(cols.size));
  for (int64_t r = 0; r < from.rows(); ++r) {
    const uint8_t* row = static_cast<const uint8_t*>(from.data) + r * from.row_bytes();
    if (!at_blocks) {
      DequantizeRow(from.dtype, row, cols.size, values.data());
      row = reinterpret_cast<const uint8_t*>(values.data());
    }
    for (const Slice& slice : cols.slices) {
      std::memcpy(out, row + RowBytes(to.dtype, slice.first),
                  static_cast<size_t>(RowBytes(to.dtype, slice.size)));
      out += RowBytes(to.dtype, slice.padded);
    }
  }
  return to;
}

// Adds what `rows` and `cols` take of a tensor to `views`, all to be stacked.
void Cut(const TensorView& from, const Axis& rows, const Axis& cols, Scratch* scratch,
         std::vector<TensorView>* views) {
  const auto add = [&](TensorView view) {
    if (!cols.whole()) view = CutColumns(view, cols, scratch);
    views->push_back(std::move(view));
  };
  for (const Slice& slice : rows.slices) {
    if (slice.size > 0) {
      TensorView view = from;
      view.data = static_cast<const uint8_t*>(from.data) + slice.first * from.row_bytes();
      view.shape = {slice.size, from.cols()};
      add(std::move(view));
    }
    if (slice.padded > slice.size) {
      add(MakeMatrix(from.dtype, slice.padded - slice.size, from.cols(), scratch));
    }
  }
}

std::vector<float> Cut(const std::vector<float>& values, const Axis& axis) {
  std::vector<float> cut;
  cut.reserve(static_cast<size_t>(axis.loaded()));
  for (const Slice& slice : axis.slices) {
    const auto first = values.begin() + slice.first;
    cut.insert(cut.end(), first, first + slice.size);
    cut.resize(cut.size() + static_cast<size_t>(slice.padded - slice.size));
  }
  return cut;
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
                                                             const Axis& cols, Bias bias) {
  std::vector<TensorView> tensors, views, bias_views;
  std::vector<std::vector<float>> biases;
  Scratch scratch;
  for (const Part& part : parts) {
    TRIREME_ASSIGN_OR_RETURN(TensorView view, Find(part.name, {part.rows.size, cols.size}));
    if (backend_ != nullptr) Cut(view, part.rows, cols, &scratch, &views);
    tensors.push_back(std::move(view));
    if (bias == Bias::kNone) continue;
    TRIREME_ASSIGN_OR_RETURN(auto values, FindVector(BiasName(part.name), part.rows.size));
    if (bias == Bias::kAdded && backend_ != nullptr) biases.push_back(Cut(values, part.rows));
  }
  if (backend_ == nullptr) return nullptr;
  for (const std::vector<float>& values : biases) bias_views.push_back(ViewOf(values));
  auto weight = backend_->PrepareMatrix(views, bias_views);
  if (!weight.ok()) return Annotate(weight.status(), StrCat("tensor ", parts.front().name));
  for (const TensorView& tensor : tensors) checkpoint_.Release(tensor);
  Report();
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Embedding(const std::string& name,
                                                                const Axis& rows, int64_t cols) {
  TRIREME_ASSIGN_OR_RETURN(const TensorView view, Find(name, {rows.size, cols}));
  if (backend_ == nullptr) return nullptr;
  std::vector<TensorView> part;
  Scratch scratch;
  Cut(view, rows, cols, &scratch, &part);
  TRIREME_CHECK(part.size() == 1);
  auto weight = backend_->PrepareEmbedding(part[0], rows.slices[0].first);
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
