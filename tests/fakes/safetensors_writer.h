// Writes safetensors files: good ones, and bad ones from a header of the test's choice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/dtype.h"

namespace trireme::fakes {

// Any header text before any data.
std::string SafetensorsFile(std::string_view header_json, std::string_view data);

class SafetensorsWriter {
 public:
  // dtype: F32, F16 or BF16; shape: outermost first.
  void AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                 std::string_view bytes);
  std::string Serialize() const;

 private:
  std::string entries_;  // of the header, comma-separated
  std::string data_;
};

}  // namespace trireme::fakes
