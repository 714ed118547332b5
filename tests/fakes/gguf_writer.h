// Writes GGUF files: good ones, and (its fields are public for that) bad ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/weights/gguf_metadata.h"

namespace trireme::fakes {

// ggml's number of a tensor type.
uint32_t GgmlTypeNumber(DType dtype);

struct GgufWriter {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;  // innermost first, as in the file
    uint32_t type = 0;
    uint64_t offset = 0;  // within the data
  };

  uint32_t version = 3;
  uint64_t alignment = 32;           // of offsets; SetUint32("general.alignment") tells the reader
  std::vector<std::string> entries;  // encoded: key, type, value
  std::vector<Tensor> tensors;
  std::string data;
  int64_t num_tensors_claimed = -1, num_entries_claimed = -1;  // < 0: the true number

  // Metadata. `value` is encoded as the file wants it.
  void SetRaw(std::string_view key, GgufType type, std::string_view value);
  void SetUint32(std::string_view key, uint32_t value);
  void SetFloat(std::string_view key, float value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetStrings(std::string_view key, const std::vector<std::string>& values);
  void SetInts(std::string_view key, const std::vector<int32_t>& values);
  void SetFloats(std::string_view key, const std::vector<float>& values);

  // shape: outermost first; bytes: of whole rows.
  void AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                 std::string_view bytes);

  std::string Serialize() const;
};

}  // namespace trireme::fakes
