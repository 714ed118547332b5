#include "runtime/weights/tensor_table.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Far above any tensor, and small enough that sizes in bytes cannot overflow.
constexpr int64_t kMaxElements = int64_t{1} << 56;

bool CountElements(absl::Span<const int64_t> shape, int64_t* count) {
  *count = 1;
  for (const int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(*count, dim, count) || *count > kMaxElements)
      return false;
  }
  return true;
}

}  // namespace

const MappedFile& TensorTable::AddFile(std::unique_ptr<MappedFile> file) {
  files_.push_back(std::move(file));
  return *files_.back();
}

absl::Status TensorTable::Add(std::string_view name, DType dtype, absl::Span<const int64_t> shape,
                              absl::Span<const uint8_t> data, uint64_t offset) {
  const auto error = [name](const auto&... why) {
    return absl::InvalidArgumentError(StrCat("tensor ", Printable(name), ": ", why...));
  };
  int64_t num_elements = 0;
  if (!CountElements(shape, &num_elements)) return error("the product of its sizes is too large");
  TensorView view;
  view.dtype = dtype;
  view.shape.assign(shape.begin(), shape.end());
  if (view.cols() % BlockSize(dtype) != 0) {
    return error("rows of ", view.cols(), " elements are not whole blocks of ", DTypeName(dtype));
  }
  const auto size = static_cast<uint64_t>(view.size_bytes());
  if (offset > data.size() || size > data.size() - offset) {
    return error(size, " bytes at offset ", offset, " reach beyond the end of the file");
  }
  view.data = data.data() + offset;
  if (!tensors_.try_emplace(std::string(name), std::move(view)).second) {
    return error("the name appears twice");
  }
  return absl::OkStatus();
}

absl::Status TensorTable::CheckNoOverlap() const {
  std::vector<std::pair<const uint8_t*, const std::pair<const std::string, TensorView>*>> order;
  for (const auto& entry : tensors_) {
    if (entry.second.size_bytes() == 0) continue;
    order.emplace_back(static_cast<const uint8_t*>(entry.second.data), &entry);
  }
  std::sort(order.begin(), order.end());
  for (size_t i = 1; i < order.size(); ++i) {
    const auto& [begin, previous] = order[i - 1];
    if (begin + previous->second.size_bytes() > order[i].first) {
      return absl::InvalidArgumentError(StrCat("tensors ", Printable(previous->first), " and ",
                                               Printable(order[i].second->first), " overlap"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> TensorTable::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return absl::NotFoundError(StrCat("no tensor ", Printable(name)));
  return found->second;
}

std::vector<std::string> TensorTable::Names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, view] : tensors_) names.push_back(name);
  return names;
}

int64_t TensorTable::size_bytes() const {
  int64_t sum = 0;  // bounded by the sizes of the files: tensors do not overlap
  for (const auto& [name, view] : tensors_) sum += view.size_bytes();
  return sum;
}

absl::Status TensorTable::Health() const {
  for (const auto& file : files_) {
    if (file->damaged()) return absl::DataLossError("a model file was truncated while being read");
  }
  return absl::OkStatus();
}

std::vector<const MappedFile*> TensorTable::Files() const {
  std::vector<const MappedFile*> files;
  files.reserve(files_.size());
  for (const auto& file : files_) files.push_back(file.get());
  return files;
}

void TensorTable::Release(const TensorView& tensor) const {
  const auto* data = static_cast<const uint8_t*>(tensor.data);
  for (const auto& file : files_) {
    const absl::Span<const uint8_t> bytes = file->bytes();
    if (data < bytes.data() || data >= bytes.data() + bytes.size()) continue;
    file->Release(static_cast<size_t>(data - bytes.data()),
                  static_cast<size_t>(tensor.size_bytes()));
  }
}

}  // namespace trireme
