// The key-value part of a GGUF file. Values stay in the file; an entry says where and of what type.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/weights/byte_reader.h"

namespace trireme {

// Numbers as in the file.
enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

struct GgufEntry {
  GgufType type = GgufType::kUint8;  // of the value, or of the elements of an array
  bool is_array = false;
  uint64_t count = 1;   // elements
  size_t position = 0;  // of the first element in the file
};
using GgufMetadata = std::map<std::string, GgufEntry, std::less<>>;

// Reads `count` entries, and walks over every value once. INVALID_ARGUMENT names the key:
// truncated, duplicate, of unknown type, a bool that is neither 0 nor 1, an array of arrays.
absl::StatusOr<GgufMetadata> ReadGgufMetadata(ByteReader* reader, uint64_t count);

// One element at the reader; nullopt when it is of another kind, out of range, or ends the file.
std::optional<int64_t> ReadGgufInt(GgufType type, ByteReader* reader);   // any integer type
std::optional<double> ReadGgufFloat(GgufType type, ByteReader* reader);  // either float type
std::optional<bool> ReadGgufBool(GgufType type, ByteReader* reader);
std::optional<std::string> ReadGgufString(GgufType type, ByteReader* reader);

}  // namespace trireme
