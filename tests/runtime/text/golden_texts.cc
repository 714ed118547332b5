#include "tests/runtime/text/golden_texts.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::golden {

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t n) {
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) % n;
  }

 private:
  uint64_t state_;
};

namespace {

std::string Scalar(uint64_t c) {
  std::string out;
  AppendUtf8(c >= 0xD800 && c < 0xE000 ? U'?' : static_cast<char32_t>(c), &out);
  return out;
}

template <typename T>
T Take(std::string_view* data) {
  TRIREME_CHECK(data->size() >= sizeof(T));
  T value;
  std::memcpy(&value, data->data(), sizeof(T));
  data->remove_prefix(sizeof(T));
  return value;
}

std::vector<std::string> TakeStrings(std::string_view* data) {
  std::vector<std::string> strings(Take<uint32_t>(data));
  for (std::string& s : strings) {
    const auto size = Take<uint16_t>(data);
    s = data->substr(0, size);
    data->remove_prefix(size);
  }
  return strings;
}

const std::string& Pick(const std::vector<std::string>& from, SplitMix64& rng) {
  return from[rng.Below(from.size())];
}

}  // namespace

std::string ReadFileOrDie(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  TRIREME_CHECK(file.good());
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string ReadGolden(std::string_view name) {
  return ReadFileOrDie(StrCat(TRIREME_SOURCE_DIR "/tests/golden/tokenizer/", name));
}

Texts::Texts() {
  const std::string file = ReadGolden("fragments.bin");
  std::string_view data = file;
  fragments_ = TakeStrings(&data);
  runs_ = TakeStrings(&data);
  spaces_ = TakeStrings(&data);
}

std::string Texts::Item(SplitMix64& rng) const {
  const uint64_t kind = rng.Below(16);
  if (kind < 10) return Pick(fragments_, rng);
  if (kind == 10) return Scalar(rng.Below(0x110000));
  std::string out;
  if (kind == 11) {
    const uint64_t base = rng.Below(0x300) << 4;
    for (uint64_t n = 1 + rng.Below(6); n > 0; --n) out += Scalar(base + rng.Below(16));
  } else if (kind == 12) {
    const std::string& run = Pick(runs_, rng);
    for (uint64_t n = 1 + rng.Below(60); n > 0; --n) out += run;
  } else if (kind == 13) {
    for (uint64_t n = 1 + rng.Below(12); n > 0; --n) out += Scalar(32 + rng.Below(95));
  } else if (kind == 14) {
    for (uint64_t n = 1 + rng.Below(8); n > 0; --n) out += Pick(spaces_, rng);
  } else {
    for (uint64_t n = 1 + rng.Below(12); n > 0; --n) out += Scalar(48 + rng.Below(10));
  }
  return out;
}

std::string Texts::Get(int index) const {
  SplitMix64 rng(static_cast<uint64_t>(index));
  std::string parts;
  for (uint64_t n = rng.Below(20); n > 0; --n) parts += Item(rng);
  if (index % 200 != 199) return parts;
  std::string repeated;
  for (int i = 0; i < 30; ++i) repeated += parts;
  return repeated;
}

std::vector<uint32_t> Hashes(std::string_view file) {
  std::vector<uint32_t> hashes(file.size() / sizeof(uint32_t));
  std::memcpy(hashes.data(), file.data(), hashes.size() * sizeof(uint32_t));
  return hashes;
}

uint32_t HashOf(absl::Span<const TokenId> ids) {
  uint32_t hash = 2166136261u;
  for (const TokenId id : ids) hash = (hash ^ static_cast<uint32_t>(id)) * 16777619u;
  return hash;
}

}  // namespace trireme::golden
