// Typed, bounded reading of the fields of a model's configuration, whichever file they come from.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "runtime/weights/gguf.h"

namespace trireme {

// Where fields come from. Values: nullopt when absent or of another kind. A JSON null counts as
// absent.
class FieldSource {
 public:
  virtual ~FieldSource() = default;
  virtual bool Has(std::string_view key) const = 0;
  virtual std::optional<int64_t> Int(std::string_view key) const = 0;
  virtual std::optional<double> Float(std::string_view key) const = 0;  // integers too
  virtual std::optional<bool> Bool(std::string_view key) const = 0;
  virtual std::optional<std::string> String(std::string_view key) const = 0;
};

class JsonFields : public FieldSource {
 public:
  explicit JsonFields(const boost::json::object& object) : object_(object) {}  // kept by the caller
  bool Has(std::string_view key) const override;
  std::optional<int64_t> Int(std::string_view key) const override;
  std::optional<double> Float(std::string_view key) const override;
  std::optional<bool> Bool(std::string_view key) const override;
  std::optional<std::string> String(std::string_view key) const override;

 private:
  const boost::json::value* Get(std::string_view key) const;
  const boost::json::object& object_;
};

// Keys of one architecture: "block_count" is "llama.block_count" in the file.
class GgufFields : public FieldSource {
 public:
  GgufFields(const GgufFile& file, std::string_view architecture)  // file: kept by the caller
      : file_(file), prefix_(std::string(architecture) + ".") {}
  bool Has(std::string_view key) const override;
  std::optional<int64_t> Int(std::string_view key) const override;
  std::optional<double> Float(std::string_view key) const override;
  std::optional<bool> Bool(std::string_view key) const override;
  std::optional<std::string> String(std::string_view key) const override;

 private:
  std::string Full(std::string_view key) const { return prefix_ + std::string(key); }
  const GgufFile& file_;
  const std::string prefix_;
};

// Reads field after field and remembers the first thing wrong, so that a family file is a plain
// list of fields. After an error the values are meaningless; status() says so at the end. A field
// without fallback is required.
class FieldReader {
 public:
  // `prefix` is put before keys in messages. source: kept by the caller.
  explicit FieldReader(const FieldSource& source, std::string_view prefix = "")
      : source_(source), prefix_(prefix) {}

  bool Has(std::string_view key) const { return source_.Has(key); }
  // From 1 (or `min`) to `max`.
  int Size(std::string_view key, int max, std::optional<int> fallback = std::nullopt, int min = 1);
  double Positive(std::string_view key, std::optional<double> fallback = std::nullopt);  // finite
  bool Bool(std::string_view key, bool fallback);
  std::string String(std::string_view key, std::string_view fallback);
  // The field changes the mathematics in a way that is not implemented: absent, null, false or
  // `neutral` only.
  void Unsupported(std::string_view key, std::optional<double> neutral = std::nullopt);

  void Fail(std::string_view key, std::string_view message);
  void Fail(const absl::Status& status);
  const absl::Status& status() const { return status_; }

 private:
  const FieldSource& source_;
  const std::string prefix_;
  absl::Status status_;
};

}  // namespace trireme
