#include "runtime/weights/gguf_metadata.h"

#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxKeyBytes = 65535;  // the specification's limit
constexpr uint32_t kNumTypes = 13;

// 0 for strings and arrays.
uint64_t FixedSize(GgufType type) {
  constexpr uint8_t sizes[kNumTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[static_cast<uint32_t>(type)];
}

absl::Status ReadType(ByteReader* reader, GgufType* type) {
  uint32_t number = 0;
  if (!reader->Read(&number)) return absl::InvalidArgumentError("the file ends inside it");
  if (number >= kNumTypes) return absl::InvalidArgumentError(StrCat("unknown type ", number));
  *type = static_cast<GgufType>(number);
  return absl::OkStatus();
}

// Moves over the elements of `entry`, checking what can be wrong about them.
absl::Status SkipElements(const GgufEntry& entry, ByteReader* reader) {
  const absl::Status truncated = absl::InvalidArgumentError("the file ends inside it");
  if (entry.type == GgufType::kString) {
    std::string_view text;
    for (uint64_t i = 0; i < entry.count; ++i) {  // each takes 8 bytes or more: bounded by the file
      if (!reader->ReadString(&text)) return truncated;
    }
  } else if (entry.type == GgufType::kBool) {
    for (uint64_t i = 0; i < entry.count; ++i) {
      uint8_t value = 0;
      if (!reader->Read(&value)) return truncated;
      if (value > 1) return absl::InvalidArgumentError("a bool that is neither 0 nor 1");
    }
  } else {
    const uint64_t size = FixedSize(entry.type);
    if (entry.count > reader->remaining() / size) return truncated;
    reader->Skip(entry.count * size);
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufEntry> ReadEntry(ByteReader* reader) {
  GgufEntry entry;
  TRIREME_RETURN_IF_ERROR(ReadType(reader, &entry.type));
  if (entry.type == GgufType::kArray) {
    entry.is_array = true;
    TRIREME_RETURN_IF_ERROR(ReadType(reader, &entry.type));
    if (entry.type == GgufType::kArray) return absl::InvalidArgumentError("an array of arrays");
    if (!reader->Read(&entry.count)) return absl::InvalidArgumentError("the file ends inside it");
  }
  entry.position = reader->position();
  TRIREME_RETURN_IF_ERROR(SkipElements(entry, reader));
  return entry;
}

template <typename T>
std::optional<int64_t> ReadAsInt(ByteReader* reader) {
  T value{};
  if (!reader->Read(&value) || !std::in_range<int64_t>(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

template <typename T>
std::optional<double> ReadAsFloat(ByteReader* reader) {
  T value{};
  if (!reader->Read(&value)) return std::nullopt;
  return static_cast<double>(value);
}

}  // namespace

absl::StatusOr<GgufMetadata> ReadGgufMetadata(ByteReader* reader, uint64_t count) {
  GgufMetadata metadata;
  for (uint64_t i = 0; i < count; ++i) {  // each takes 13 bytes or more: bounded by the file
    std::string_view key;
    if (!reader->ReadString(&key)) {
      return absl::InvalidArgumentError(StrCat("the file ends inside metadata entry ", i));
    }
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          StrCat("metadata entry ", i, " has a key of ", key.size(), " bytes"));
    }
    auto entry = ReadEntry(reader);
    const std::string name = StrCat("metadata key ", Printable(key));
    if (!entry.ok()) return Annotate(entry.status(), name);
    if (!metadata.try_emplace(std::string(key), *entry).second) {
      return absl::InvalidArgumentError(StrCat(name, " appears twice"));
    }
  }
  return metadata;
}

std::optional<int64_t> ReadGgufInt(GgufType type, ByteReader* reader) {
  switch (type) {
    case GgufType::kUint8:
      return ReadAsInt<uint8_t>(reader);
    case GgufType::kInt8:
      return ReadAsInt<int8_t>(reader);
    case GgufType::kUint16:
      return ReadAsInt<uint16_t>(reader);
    case GgufType::kInt16:
      return ReadAsInt<int16_t>(reader);
    case GgufType::kUint32:
      return ReadAsInt<uint32_t>(reader);
    case GgufType::kInt32:
      return ReadAsInt<int32_t>(reader);
    case GgufType::kUint64:
      return ReadAsInt<uint64_t>(reader);
    case GgufType::kInt64:
      return ReadAsInt<int64_t>(reader);
    default:
      return std::nullopt;
  }
}

std::optional<double> ReadGgufFloat(GgufType type, ByteReader* reader) {
  if (type == GgufType::kFloat32) return ReadAsFloat<float>(reader);
  if (type == GgufType::kFloat64) return ReadAsFloat<double>(reader);
  return std::nullopt;
}

std::optional<bool> ReadGgufBool(GgufType type, ByteReader* reader) {
  uint8_t value = 0;
  if (type != GgufType::kBool || !reader->Read(&value)) return std::nullopt;
  return value != 0;
}

std::optional<std::string> ReadGgufString(GgufType type, ByteReader* reader) {
  std::string_view text;
  if (type != GgufType::kString || !reader->ReadString(&text)) return std::nullopt;
  return std::string(text);
}

}  // namespace trireme
