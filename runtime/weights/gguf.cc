#include "runtime/weights/gguf.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <utility>

#include "runtime/base/mapped_file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/weights/gguf_metadata.h"
#include "runtime/weights/tensor_table.h"

namespace trireme {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxDims = 4;
constexpr size_t kMaxTensorNameBytes = 64;  // the specification's limit
constexpr uint32_t kDefaultAlignment = 32;
constexpr size_t kDescribedBytes = 80;  // of a key or a string value
constexpr uint64_t kDescribedElements = 5;

// ggml's numbers of tensor types. Those without a DType are named for the error message.
struct GgmlType {
  uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;
};
constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},
    {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},
    {12, "Q4_K", DType::kQ4_K},
    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},
    {30, "BF16", DType::kBF16},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
};

absl::StatusOr<DType> FromGgmlType(uint32_t number) {
  const auto* type = std::find_if(std::begin(kGgmlTypes), std::end(kGgmlTypes),
                                  [&](const GgmlType& t) { return t.number == number; });
  if (type == std::end(kGgmlTypes)) {
    return absl::InvalidArgumentError(StrCat("unknown tensor type ", number));
  }
  if (!type->dtype) {
    return absl::InvalidArgumentError(StrCat("tensor type ", type->name, " is not supported"));
  }
  return *type->dtype;
}

struct Header {
  uint64_t num_tensors = 0;
  uint64_t num_entries = 0;
};

absl::StatusOr<Header> ReadHeader(ByteReader* reader) {
  uint32_t magic = 0, version = 0;
  Header header;
  if (!reader->Read(&magic) || magic != kMagic) {
    return absl::InvalidArgumentError("not a GGUF file: it does not begin with \"GGUF\"");
  }
  if (!reader->Read(&version) || !reader->Read(&header.num_tensors) ||
      !reader->Read(&header.num_entries)) {
    return absl::InvalidArgumentError("the file ends inside the header");
  }
  if (version != 0 && (version & 0xffff) == 0) {  // a small number, byte-swapped
    return absl::InvalidArgumentError("big-endian GGUF is not supported");
  }
  if (version != 2 && version != 3) {
    return absl::InvalidArgumentError(StrCat("GGUF version ", version, " is not supported"));
  }
  return header;
}

struct TensorInfo {
  std::string_view name;
  DType dtype = DType::kF32;
  absl::InlinedVector<int64_t, 4> shape;
  uint64_t offset = 0;
};

// What follows the name: number of dimensions, sizes (innermost first), type, offset.
absl::Status ReadTensorInfo(ByteReader* reader, TensorInfo* info) {
  const absl::Status truncated = absl::InvalidArgumentError("the file ends inside its description");
  uint32_t num_dims = 0, type = 0;
  if (!reader->Read(&num_dims)) return truncated;
  if (num_dims < 1 || num_dims > kMaxDims) {
    return absl::InvalidArgumentError(StrCat(num_dims, " dimensions; 1 to 4 are allowed"));
  }
  for (uint32_t i = 0; i < num_dims; ++i) {
    uint64_t dim = 0;
    if (!reader->Read(&dim)) return truncated;
    if (dim == 0 || !std::in_range<int64_t>(dim)) {
      return absl::InvalidArgumentError(StrCat("dimension ", i, " is ", dim));
    }
    info->shape.insert(info->shape.begin(), static_cast<int64_t>(dim));
  }
  if (!reader->Read(&type) || !reader->Read(&info->offset)) return truncated;
  TRIREME_ASSIGN_OR_RETURN(info->dtype, FromGgmlType(type));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TensorInfo>> ReadTensorInfos(ByteReader* reader, uint64_t count) {
  std::vector<TensorInfo> infos;
  for (uint64_t i = 0; i < count; ++i) {  // each takes 32 bytes or more: bounded by the file
    TensorInfo info;
    if (!reader->ReadString(&info.name)) {
      return absl::InvalidArgumentError(StrCat("the file ends inside the name of tensor ", i));
    }
    if (info.name.empty() || info.name.size() > kMaxTensorNameBytes) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", i, " has a name of ", info.name.size(), " bytes"));
    }
    if (absl::Status status = ReadTensorInfo(reader, &info); !status.ok()) {
      return Annotate(status, StrCat("tensor ", Printable(info.name)));
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

class MappedGgufFile : public GgufFile {
 public:
  absl::Status Read(std::unique_ptr<MappedFile> file) {
    bytes_ = tensors_.AddFile(std::move(file)).bytes();
    ByteReader reader(bytes_, 0);
    TRIREME_ASSIGN_OR_RETURN(const Header header, ReadHeader(&reader));
    TRIREME_ASSIGN_OR_RETURN(metadata_, ReadGgufMetadata(&reader, header.num_entries));
    TRIREME_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
    TRIREME_ASSIGN_OR_RETURN(const std::vector<TensorInfo> infos,
                             ReadTensorInfos(&reader, header.num_tensors));
    const uint64_t data_begin = (reader.position() + alignment - 1) / alignment * alignment;
    const absl::Span<const uint8_t> data =
        bytes_.subspan(std::min<uint64_t>(data_begin, bytes_.size()));
    for (const TensorInfo& info : infos) {
      if (info.offset % alignment != 0) {
        return absl::InvalidArgumentError(StrCat("tensor ", Printable(info.name), ": offset ",
                                                 info.offset, " is not a multiple of ", alignment));
      }
      TRIREME_RETURN_IF_ERROR(tensors_.Add(info.name, info.dtype, info.shape, data, info.offset));
    }
    TRIREME_RETURN_IF_ERROR(tensors_.CheckNoOverlap());
    return Health();
  }

  // Checkpoint.
  absl::StatusOr<TensorView> Find(std::string_view name) const override {
    return tensors_.Find(name);
  }
  std::vector<std::string> Names() const override { return tensors_.Names(); }
  int64_t size_bytes() const override { return tensors_.size_bytes(); }
  absl::Status Health() const override { return tensors_.Health(); }
  void Release(const TensorView& tensor) const override { tensors_.Release(tensor); }
  std::vector<const MappedFile*> Files() const override { return tensors_.Files(); }

  // Metadata.
  bool Has(std::string_view key) const override { return metadata_.contains(key); }
  std::optional<int64_t> Int(std::string_view key) const override {
    return Scalar(key, ReadGgufInt);
  }
  std::optional<double> Float(std::string_view key) const override {
    return Scalar(key, ReadGgufFloat);
  }
  std::optional<bool> Bool(std::string_view key) const override {
    return Scalar(key, ReadGgufBool);
  }
  std::optional<std::string> String(std::string_view key) const override {
    return Scalar(key, ReadGgufString);
  }
  std::vector<std::string> Strings(std::string_view key) const override {
    return Array<std::string>(key, ReadGgufString);
  }
  std::vector<int32_t> Ints(std::string_view key) const override {
    return Array<int32_t>(key, [](GgufType type, ByteReader* reader) {
      const std::optional<int64_t> value = ReadGgufInt(type, reader);
      return value && std::in_range<int32_t>(*value) ? value : std::nullopt;
    });
  }
  std::vector<float> Floats(std::string_view key) const override {
    return Array<float>(key, ReadGgufFloat);
  }

  std::vector<std::pair<std::string, std::string>> Describe() const override {
    std::vector<std::pair<std::string, std::string>> lines;
    for (const auto& [key, entry] : metadata_) {
      ByteReader reader(bytes_, entry.position);
      std::string value;
      for (uint64_t i = 0; i < std::min(entry.count, kDescribedElements); ++i) {
        StrAppend(&value, i == 0 ? "" : ", ", DescribeElement(entry.type, &reader));
      }
      if (entry.is_array) {
        const std::string more =
            entry.count > kDescribedElements ? StrCat(", ... ", entry.count, " in all") : "";
        value = StrCat("[", value, more, "]");
      }
      lines.emplace_back(Printable(key, kDescribedBytes), std::move(value));
    }
    return lines;
  }

 private:
  absl::StatusOr<uint64_t> Alignment() const {
    if (!metadata_.contains("general.alignment")) return kDefaultAlignment;
    const std::optional<int64_t> value = Int("general.alignment");
    if (!value || *value < 8 || *value > UINT32_MAX ||
        !std::has_single_bit(static_cast<uint64_t>(*value))) {
      return absl::InvalidArgumentError(
          "metadata key general.alignment: a power of two from 8 to 2^31 is wanted");
    }
    return static_cast<uint64_t>(*value);
  }

  // `read` is one of ReadGguf*. The file may have been truncated since Open: reads are checked
  // again.
  template <typename T>
  std::optional<T> Scalar(std::string_view key,
                          std::optional<T> (*read)(GgufType, ByteReader*)) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end() || found->second.is_array) return std::nullopt;
    ByteReader reader(bytes_, found->second.position);
    return read(found->second.type, &reader);
  }

  template <typename T, typename ReadFn>
  std::vector<T> Array(std::string_view key, ReadFn read) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end() || !found->second.is_array) return {};
    ByteReader reader(bytes_, found->second.position);
    std::vector<T> values;
    values.reserve(found->second.count);  // Open has found that many in the file
    for (uint64_t i = 0; i < found->second.count; ++i) {
      auto value = read(found->second.type, &reader);
      if (!value) return {};
      values.push_back(static_cast<T>(*std::move(value)));
    }
    return values;
  }

  static std::string DescribeElement(GgufType type, ByteReader* reader) {
    if (type == GgufType::kString) {
      const std::string text = ReadGgufString(type, reader).value_or("");
      return StrCat("\"", Printable(text, kDescribedBytes), "\"");
    }
    if (type == GgufType::kBool)
      return ReadGgufBool(type, reader).value_or(false) ? "true" : "false";
    if (type == GgufType::kFloat32 || type == GgufType::kFloat64) {
      const double value = ReadGgufFloat(type, reader).value_or(0);
      char buffer[32];
      const auto end = type == GgufType::kFloat32
                           ? std::to_chars(buffer, buffer + 32, static_cast<float>(value)).ptr
                           : std::to_chars(buffer, buffer + 32, value).ptr;
      return std::string(buffer, end);
    }
    const std::optional<int64_t> value = ReadGgufInt(type, reader);
    return value ? StrCat(*value) : "above 2^63";
  }

  TensorTable tensors_;
  absl::Span<const uint8_t> bytes_;  // of the file, which tensors_ owns
  GgufMetadata metadata_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  auto file = std::make_unique<MappedGgufFile>();
  TRIREME_RETURN_IF_ERROR(Annotate(file->Read(std::move(mapped)), path));
  return file;
}

}  // namespace trireme
