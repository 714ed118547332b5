#include "tests/fakes/gguf_writer.h"

#include "tests/fakes/files.h"

namespace trireme::fakes {
namespace {

void AppendString(std::string* out, std::string_view text) {
  AppendBytes<uint64_t>(out, text.size());
  out->append(text);
}

template <typename T>
std::string Encoded(T value) {
  std::string bytes;
  AppendBytes(&bytes, value);
  return bytes;
}

// Element type and count: how the value of an array begins.
std::string ArrayHead(GgufType type, size_t count) {
  return Encoded(static_cast<uint32_t>(type)) + Encoded(static_cast<uint64_t>(count));
}

void Pad(std::string* out, uint64_t alignment) {
  while (out->size() % alignment != 0) out->push_back('\0');
}

}  // namespace

uint32_t GgmlTypeNumber(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kBF16:
      return 30;
  }
  return 0;
}

void GgufWriter::SetRaw(std::string_view key, GgufType type, std::string_view value) {
  std::string entry;
  AppendString(&entry, key);
  AppendBytes(&entry, static_cast<uint32_t>(type));
  entry.append(value);
  entries.push_back(std::move(entry));
}

void GgufWriter::SetUint32(std::string_view key, uint32_t value) {
  SetRaw(key, GgufType::kUint32, Encoded(value));
}
void GgufWriter::SetFloat(std::string_view key, float value) {
  SetRaw(key, GgufType::kFloat32, Encoded(value));
}
void GgufWriter::SetBool(std::string_view key, bool value) {
  SetRaw(key, GgufType::kBool, Encoded(static_cast<uint8_t>(value)));
}
void GgufWriter::SetString(std::string_view key, std::string_view value) {
  std::string bytes;
  AppendString(&bytes, value);
  SetRaw(key, GgufType::kString, bytes);
}
void GgufWriter::SetStrings(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes = ArrayHead(GgufType::kString, values.size());
  for (const std::string& value : values) AppendString(&bytes, value);
  SetRaw(key, GgufType::kArray, bytes);
}
void GgufWriter::SetInts(std::string_view key, const std::vector<int32_t>& values) {
  std::string bytes = ArrayHead(GgufType::kInt32, values.size());
  for (const int32_t value : values) AppendBytes(&bytes, value);
  SetRaw(key, GgufType::kArray, bytes);
}
void GgufWriter::SetFloats(std::string_view key, const std::vector<float>& values) {
  std::string bytes = ArrayHead(GgufType::kFloat32, values.size());
  for (const float value : values) AppendBytes(&bytes, value);
  SetRaw(key, GgufType::kArray, bytes);
}

void GgufWriter::AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                           std::string_view bytes) {
  Pad(&data, alignment);
  Tensor tensor;
  tensor.name = name;
  tensor.dims.assign(shape.rbegin(), shape.rend());
  tensor.type = GgmlTypeNumber(dtype);
  tensor.offset = data.size();
  tensors.push_back(std::move(tensor));
  data.append(bytes);
}

std::string GgufWriter::Serialize() const {
  std::string out = "GGUF";
  AppendBytes(&out, version);
  AppendBytes(&out,
              num_tensors_claimed < 0 ? static_cast<int64_t>(tensors.size()) : num_tensors_claimed);
  AppendBytes(&out,
              num_entries_claimed < 0 ? static_cast<int64_t>(entries.size()) : num_entries_claimed);
  for (const std::string& entry : entries) out += entry;
  for (const Tensor& tensor : tensors) {
    AppendString(&out, tensor.name);
    AppendBytes(&out, static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) AppendBytes(&out, dim);
    AppendBytes(&out, tensor.type);
    AppendBytes(&out, tensor.offset);
  }
  Pad(&out, alignment);
  return out + data;
}

}  // namespace trireme::fakes
