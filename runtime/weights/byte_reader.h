// A bounds-checked cursor over untrusted little-endian bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "absl/types/span.h"

namespace trireme {

// Every Read returns false, and moves nothing, when the bytes end before the value does.
class ByteReader {
 public:
  ByteReader(absl::Span<const uint8_t> bytes, size_t position)
      : bytes_(bytes), position_(position) {}

  size_t position() const { return position_; }
  size_t remaining() const { return position_ < bytes_.size() ? bytes_.size() - position_ : 0; }

  template <typename T>
  bool Read(T* value) {
    static_assert(std::is_arithmetic_v<T>);  // hosts are little-endian, as the files are
    if (remaining() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  // A u64 length and that many bytes; the view points into the source.
  bool ReadString(std::string_view* value) {
    const size_t start = position_;
    uint64_t length = 0;
    if (!Read(&length) || length > remaining()) {
      position_ = start;
      return false;
    }
    *value = {reinterpret_cast<const char*>(bytes_.data()) + position_, length};
    position_ += length;
    return true;
  }

  bool Skip(uint64_t count) {
    if (count > remaining()) return false;
    position_ += count;
    return true;
  }

 private:
  absl::Span<const uint8_t> bytes_;
  size_t position_;
};

}  // namespace trireme
