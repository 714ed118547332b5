// GGUF v2 and v3 files (specification: ggml docs/gguf.md): metadata and tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/weights/checkpoint.h"

namespace trireme {

class GgufFile : public Checkpoint {
 public:
  // INVALID_ARGUMENT names the key, tensor or offset that is wrong. Nothing is allocated from
  // unchecked lengths.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);

  // Metadata. Has: with any type.
  virtual bool Has(std::string_view key) const = 0;
  // nullopt when absent or of another type. Integers of any width read as int64; floats
  // as double.
  virtual std::optional<int64_t> Int(std::string_view key) const = 0;
  virtual std::optional<double> Float(std::string_view key) const = 0;
  virtual std::optional<bool> Bool(std::string_view key) const = 0;
  virtual std::optional<std::string> String(std::string_view key) const = 0;
  // Arrays; empty when absent or of another type.
  virtual std::vector<std::string> Strings(std::string_view key) const = 0;
  virtual std::vector<int32_t> Ints(std::string_view key) const = 0;
  virtual std::vector<float> Floats(std::string_view key) const = 0;
  // "key = value" of every entry, arrays abbreviated: for `trireme inspect`.
  virtual std::vector<std::pair<std::string, std::string>> Describe() const = 0;
};

}  // namespace trireme
