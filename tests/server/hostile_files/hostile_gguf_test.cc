// A real model's header and metadata, damaged at random: opening it either works or is refused with
// a message that names the file, and never takes much more memory than the sound file.
//
// TRIREME_TEST_MODEL: the demo model's GGUF; skipped without it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/decoder.h"
#include "runtime/model/model_files.h"
#include "server/node/model_text.h"
#include "tests/fakes/files.h"
#include "tests/server/hostile_files/counting_allocator.h"

namespace trireme {
namespace {

constexpr int kSeeds = 300, kTruncations = 100;
constexpr int64_t kMemoryFactor = 4;
constexpr size_t kMaxMessageBytes = 1000;

// Everything that looks at the file before the weights are read.
absl::Status LoadAllButWeights(const std::string& path) {
  auto files = OpenModelFiles(path);
  if (!files.ok()) return files.status();
  auto text = OpenModelText(*files);
  if (!text.ok()) return text.status();
  files->gguf->Describe();
  // Sound or not by chance, it must be safe to use.
  std::vector<TokenId> ids;
  for (const char* sample : {"Hello, w\xc3\xb6rld 123\n", "<|im_start|>user"}) {
    const std::vector<TokenId> encoded =
        text->tokenizer->Encode(sample, Tokenizer::SpecialTokens::kParse, true);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }
  for (const TokenId id : ids) TRIREME_CHECK(id >= 0 && id < text->tokenizer->vocab_size());
  const absl::Status tensors = Decoder::CheckTensors(files->spec, *files->checkpoint);
  return tensors.ok() ? tensors : WithFile(tensors, path);
}

class HostileGguf : public testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("TRIREME_TEST_MODEL");
    if (model == nullptr || *model == '\0') GTEST_SKIP() << "TRIREME_TEST_MODEL is not set";
    const auto files = OpenModelFiles(model);
    ASSERT_TRUE(files.ok()) << files.status();
    size_ = std::filesystem::file_size(model);
    header_.resize(size_ - static_cast<size_t>(files->checkpoint->size_bytes()));
    ASSERT_TRUE(std::ifstream(model, std::ios::binary)
                    .read(header_.data(), static_cast<std::streamsize>(header_.size())));
    Write(header_, size_);
    StartCounting();
    const absl::Status sound = LoadAllButWeights(path_);
    ASSERT_TRUE(sound.ok()) << sound;
    sound_bytes_ = PeakBytes();
  }
  // The header, then a hole in place of the weights.
  void Write(const std::string& header, size_t size) {
    fakes::WriteFile(path_, header);
    std::filesystem::resize_file(path_, size);
  }
  // True when it loaded.
  bool LoadsOrIsRefused() {
    StartCounting();
    const absl::Status status = LoadAllButWeights(path_);
    EXPECT_LE(PeakBytes(), kMemoryFactor * sound_bytes_);
    if (status.ok()) return true;
    const std::string message(status.message());
    EXPECT_NE(message.find(path_), std::string::npos) << message;
    EXPECT_LT(message.size(), kMaxMessageBytes);
    for (const char c : message)
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << message;
    return false;
  }

  fakes::TempDirectory directory_;
  const std::string path_ = directory_.File("hostile.gguf");
  std::string header_;
  size_t size_ = 0;
  int64_t sound_bytes_ = 0;
};

TEST_F(HostileGguf, ChangedBytesAreSafe) {
  int refused = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    std::string header = header_;
    // Lengths and types stand close together at the beginning (keys) and the end (tensors); in
    // between are the vocabulary and the merges.
    const size_t zone = std::min<size_t>(header.size(), 16 << 10);
    const size_t begin = seed % 3 == 0 ? 0 : seed % 3 == 1 ? header.size() - zone : 0;
    const size_t length = seed % 3 == 2 ? header.size() : zone;
    const int count = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < count; ++i) {
      char& byte = header[begin + random() % length];
      const uint64_t how = random() % 4;
      byte = how == 0   ? static_cast<char>(random())
             : how == 1 ? static_cast<char>(byte ^ (1 << random() % 8))
             : how == 2 ? '\xff'
                        : '\0';
    }
    Write(header, size_);
    if (!LoadsOrIsRefused()) ++refused;
  }
  EXPECT_GT(refused, kSeeds / 10) << "the damage does not reach what is checked";
}

TEST_F(HostileGguf, TruncatedFilesAreRefused) {
  std::mt19937_64 random(7);
  for (int i = 0; i < kTruncations; ++i) {
    const size_t size = i % 4 == 0   ? 1 + random() % 256
                        : i % 4 == 3 ? header_.size() + random() % (size_ - header_.size())
                                     : 1 + random() % header_.size();
    SCOPED_TRACE(StrCat(size, " bytes"));
    Write(header_.substr(0, size), size);
    EXPECT_FALSE(LoadsOrIsRefused());
  }
}

}  // namespace
}  // namespace trireme
