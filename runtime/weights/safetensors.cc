// Safetensors (format: the README of huggingface/safetensors): u64 header length | JSON header |
// data. The header maps a name to {dtype, shape, data_offsets [begin, end) within data}; the
// tensors cover data without holes or overlap.
#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "runtime/base/file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/weights/byte_reader.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/strict_json.h"
#include "runtime/weights/tensor_table.h"

namespace trireme {
namespace {

namespace json = boost::json;

// The format allows 100 MB, which as parsed JSON would be a gigabyte; published headers are below
// 10 MB.
constexpr uint64_t kMaxHeaderBytes = 32 << 20;
constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxFileNameBytes = 255;  // of Linux file systems
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

const json::value* Get(const json::object& object, std::string_view key) {
  return object.if_contains({key.data(), key.size()});
}

// An array of at most `max_size` integers >= 0.
absl::StatusOr<std::vector<int64_t>> ReadSizes(const json::object& object, std::string_view key,
                                               size_t max_size) {
  const json::value* value = Get(object, key);
  const json::array* array = value != nullptr ? value->if_array() : nullptr;
  const auto error =
      absl::InvalidArgumentError(StrCat(key, " must be an array of at most ", max_size, " sizes"));
  if (array == nullptr || array->size() > max_size) return error;
  std::vector<int64_t> sizes;
  for (const json::value& element : *array) {
    if (!element.is_int64() || element.get_int64() < 0) return error;
    sizes.push_back(element.get_int64());
  }
  return sizes;
}

absl::StatusOr<DType> ReadDType(const json::object& tensor) {
  const json::value* value = Get(tensor, "dtype");
  if (value == nullptr || !value->is_string()) {
    return absl::InvalidArgumentError("dtype must be a string");
  }
  const std::string_view name = View(value->get_string());
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      StrCat("dtype ", Printable(name), " is not supported (F32, F16, BF16 are)"));
}

// The format's one special entry: free text about the file. Nothing in it is used.
absl::Status CheckMetadata(const json::value& value) {
  const json::object* object = value.if_object();
  const auto is_text = [](const auto& entry) { return entry.value().is_string(); };
  if (object == nullptr || !std::all_of(object->begin(), object->end(), is_text)) {
    return absl::InvalidArgumentError("__metadata__: an object of strings is wanted");
  }
  return absl::OkStatus();
}

struct Extent {
  int64_t begin = 0, end = 0;
};

struct Description {
  DType dtype;
  std::vector<int64_t> shape;
  Extent extent;
};

absl::StatusOr<Description> ReadDescription(const json::value& description) {
  const json::object* object = description.if_object();
  if (object == nullptr) return absl::InvalidArgumentError("an object is wanted");
  TRIREME_ASSIGN_OR_RETURN(const DType dtype, ReadDType(*object));
  TRIREME_ASSIGN_OR_RETURN(const auto shape, ReadSizes(*object, "shape", kMaxDims));
  TRIREME_ASSIGN_OR_RETURN(const auto offsets, ReadSizes(*object, "data_offsets", 2));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return absl::InvalidArgumentError("data_offsets must be [begin, end]");
  }
  return Description{dtype, shape, {offsets[0], offsets[1]}};
}

// Errors name the tensor.
absl::StatusOr<Extent> AddTensor(const std::string& name, const json::value& value,
                                 absl::Span<const uint8_t> data, TensorTable* table) {
  const std::string named = StrCat("tensor ", Printable(name));
  const auto description = ReadDescription(value);
  if (!description.ok()) return Annotate(description.status(), named);
  const auto [begin, end] = description->extent;
  TRIREME_RETURN_IF_ERROR(
      table->Add(name, description->dtype, description->shape, data, static_cast<uint64_t>(begin)));
  TRIREME_ASSIGN_OR_RETURN(const TensorView view, table->Find(name));
  if (view.size_bytes() != end - begin) {
    return absl::InvalidArgumentError(StrCat(named, ": data_offsets span ", end - begin,
                                             " bytes, its shape needs ", view.size_bytes()));
  }
  return description->extent;
}

// Sorted, the extents must follow each other from 0 to the end of the data.
absl::Status CheckCovers(std::vector<std::pair<Extent, std::string>> extents, size_t data_bytes) {
  std::sort(extents.begin(), extents.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  int64_t position = 0;
  for (const auto& [extent, name] : extents) {
    if (extent.begin != position) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", Printable(name), " begins at offset ", extent.begin,
                 extent.begin < position ? ", inside another tensor" : ", behind a hole"));
    }
    position = extent.end;
  }
  if (static_cast<uint64_t>(position) != data_bytes) {
    return absl::InvalidArgumentError(
        StrCat(data_bytes, " bytes of data, of which the tensors cover ", position));
  }
  return absl::OkStatus();
}

// Adds the tensors of one file; returns their names.
absl::StatusOr<std::set<std::string>> ReadShard(const std::string& path, TensorTable* table) {
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  const absl::Span<const uint8_t> bytes = table->AddFile(std::move(file)).bytes();
  ByteReader reader(bytes, 0);
  uint64_t header_bytes = 0;
  if (!reader.Read(&header_bytes)) {
    return absl::InvalidArgumentError(
        StrCat("the file is too short: ", bytes.size(),
               " bytes, of which its first 8 give the header's length"));
  }
  if (header_bytes > kMaxHeaderBytes || header_bytes > reader.remaining()) {
    return absl::InvalidArgumentError(StrCat(
        "a header of ", header_bytes, " bytes: beyond the file, or above ", kMaxHeaderBytes));
  }
  auto header = ParseStrictJson({reinterpret_cast<const char*>(bytes.data()) + reader.position(),
                                 static_cast<size_t>(header_bytes)});
  if (!header.ok()) return Annotate(header.status(), "header");
  const absl::Span<const uint8_t> data = bytes.subspan(reader.position() + header_bytes);
  std::vector<std::pair<Extent, std::string>> extents;
  std::set<std::string> names;
  for (const auto& [key, description] : *header) {
    const std::string name(View(key));
    if (name == "__metadata__") {
      TRIREME_RETURN_IF_ERROR(CheckMetadata(description));
      continue;
    }
    TRIREME_ASSIGN_OR_RETURN(const Extent extent, AddTensor(name, description, data, table));
    extents.emplace_back(extent, name);
    names.insert(name);
  }
  TRIREME_RETURN_IF_ERROR(CheckCovers(std::move(extents), data.size()));
  return names;
}

// A plain file name: an index must not lead out of its folder, and what it names is shown in
// messages as it is.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name == Printable(name, kMaxFileNameBytes);
}

// The index's weight_map: shard file -> its tensors.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadIndex(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  TRIREME_ASSIGN_OR_RETURN(const json::object index, ParseStrictJson(text));
  const json::value* map = Get(index, "weight_map");
  if (map == nullptr || !map->is_object()) {
    return absl::InvalidArgumentError("weight_map must be an object");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : map->get_object()) {
    if (!shard.is_string() || !IsPlainFileName(View(shard.get_string()))) {
      return absl::InvalidArgumentError(StrCat(
          "weight_map: the file of tensor ", Printable(View(tensor)), " is not a plain file name"));
    }
    shards[std::string(View(shard.get_string()))].emplace_back(View(tensor));
  }
  return shards;
}

class SafetensorsCheckpoint : public Checkpoint {
 public:
  absl::Status ReadFile(const std::string& path) {
    TRIREME_RETURN_IF_ERROR(WithFile(ReadShard(path, &tensors_).status(), path));
    return Health();
  }

  absl::Status ReadShards(const std::filesystem::path& directory) {
    const std::string index_path = directory / kIndexFile;
    const auto shards = ReadIndex(index_path);
    if (!shards.ok()) return WithFile(shards.status(), index_path);
    for (const auto& [shard, tensors] : *shards) {
      const std::string path = directory / shard;
      const auto names = ReadShard(path, &tensors_);
      if (!names.ok()) return WithFile(names.status(), path);
      for (const std::string& tensor : tensors) {
        if (!names->contains(tensor)) {
          return absl::InvalidArgumentError(
              StrCat(path, ": no tensor ", Printable(tensor), ", which the index places there"));
        }
      }
    }
    return Health();
  }

  absl::StatusOr<TensorView> Find(std::string_view name) const override {
    return tensors_.Find(name);
  }
  std::vector<std::string> Names() const override { return tensors_.Names(); }
  int64_t size_bytes() const override { return tensors_.size_bytes(); }
  absl::Status Health() const override { return tensors_.Health(); }
  void Release(const TensorView& tensor) const override { tensors_.Release(tensor); }
  std::vector<const MappedFile*> Files() const override { return tensors_.Files(); }

 private:
  TensorTable tensors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& path) {
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>();
  const std::filesystem::path root(path);
  std::error_code ignored;
  if (!std::filesystem::is_directory(root, ignored)) {
    TRIREME_RETURN_IF_ERROR(checkpoint->ReadFile(path));
  } else if (std::filesystem::exists(root / kSingleFile, ignored)) {
    TRIREME_RETURN_IF_ERROR(checkpoint->ReadFile(root / kSingleFile));
  } else if (std::filesystem::exists(root / kIndexFile, ignored)) {
    TRIREME_RETURN_IF_ERROR(checkpoint->ReadShards(root));
  } else {
    return absl::NotFoundError(StrCat(path, ": neither ", kSingleFile, " nor ", kIndexFile));
  }
  return checkpoint;
}

}  // namespace trireme
