#include "tests/gpusim/vm/matrix_operand.h"

#include <bit>
#include <cstring>

#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {

void ToFloats(MatrixElement type, const std::byte* from, int bytes, float* to) {
  const auto each = [&]<typename T>(T, auto&& value) {
    for (int i = 0; i < bytes / static_cast<int>(sizeof(T)); ++i) {
      T bits;
      std::memcpy(&bits, from + static_cast<size_t>(i) * sizeof(T), sizeof(T));
      to[i] = value(bits);
    }
  };
  switch (type) {
    case MatrixElement::kBf16:
      return each(uint16_t{}, &FromBf16);
    case MatrixElement::kF16:
      return each(uint16_t{}, &FromF16);
    case MatrixElement::kTf32:  // the lower 13 bits are not looked at
      return each(uint32_t{}, [](uint32_t b) { return std::bit_cast<float>(b & ~0x1fffu); });
    case MatrixElement::kE4m3:
      return each(uint8_t{}, &FromE4m3);
    case MatrixElement::kE5m2:
      return each(uint8_t{}, &FromE5m2);
    case MatrixElement::kS8:
      return each(int8_t{}, [](int8_t b) { return static_cast<float>(b); });
    case MatrixElement::kU8:
      return each(uint8_t{}, [](uint8_t b) { return static_cast<float>(b); });
    case MatrixElement::kE2m1:  // the lower half of a byte first
      for (int i = 0; i < 2 * bytes; ++i) {
        to[i] = FromE2m1(static_cast<uint8_t>(from[i / 2]) >> 4 * (i % 2) & 15);
      }
      return;
  }
}

std::vector<uint32_t> SharedOperand::Chunks() const {
  std::vector<uint32_t> chunks;
  EachChunk([&](uint32_t at, int, int) { chunks.push_back(at); });
  return chunks;
}

}  // namespace trireme::gpusim
