// The texts of the tokenizer golden files: the generator of tests/golden/make_tokenizer_golden.py,
// once more.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "runtime/base/ids.h"

namespace trireme::golden {

inline constexpr int kNumTexts = 12000;
inline constexpr uint32_t kExempt = 0;  // in place of a hash: not compared

// Reads a file of tests/golden/tokenizer/; stops the test program when it is not there.
std::string ReadGolden(std::string_view name);
std::string ReadFileOrDie(const std::string& path);

class Texts {
 public:
  Texts();  // reads fragments.bin
  std::string Get(int index) const;

 private:
  using Strings = std::vector<std::string>;
  std::string Item(class SplitMix64& rng) const;
  Strings fragments_, runs_, spaces_;
};

// Little-endian uint32 values of a .hash file.
std::vector<uint32_t> Hashes(std::string_view file);
uint32_t HashOf(absl::Span<const TokenId> ids);

}  // namespace trireme::golden
