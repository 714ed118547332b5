#include "runtime/backend/packed_weights.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"
#include "runtime/backend/cpu_backend.h"
#include "runtime/base/hash_words.h"
#include "tests/fakes/files.h"

namespace trireme {
namespace {

constexpr int64_t kRows = 70, kCols = 64;
constexpr size_t kHeaderBytes = 48;

// A "checkpoint" of one F32 matrix at an odd place of a file, and a folder for its packed form.
class PackedWeightsTest : public testing::Test {
 protected:
  PackedWeightsTest() { WriteSource(1); }

  void WriteSource(int seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    std::vector<float> values(kRows * kCols);
    for (float& v : values) v = static_cast<float>(random() % 1000) / 500.0f - 1.0f;
    std::string bytes(kOffset, 'x');
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    // Under another name first: another inode, as when a model is downloaded anew.
    fakes::WriteFile(source_ + ".other", bytes);
    std::filesystem::rename(source_ + ".other", source_);
  }

  struct Result {
    std::vector<float> y;
    int found = 0, added = 0;
    absl::Status written;
  };

  // A start: one matrix is prepared and multiplied, the file is written if there was none.
  Result Run() {
    auto file = MappedFile::Open(source_);
    EXPECT_TRUE(file.ok());
    const MappedFile* files[] = {file->get()};
    auto packed = PackedWeights::Open(path_, files);
    auto backend = MakeCpuBackend({.num_threads = 2, .packed = packed});
    EXPECT_TRUE(backend.ok());
    const TensorView view = {.data = (*file)->bytes().data() + kOffset, .shape = {kRows, kCols}};
    auto weight = (*backend)->PrepareMatrix({&view, 1}, {});
    EXPECT_TRUE(weight.ok());
    Result result;
    result.written = packed->Write({});
    result.found = packed->num_found();
    result.added = packed->num_added();
    std::vector<float> x(kCols, 0.5f);
    result.y.resize(kRows);
    (*backend)->MatMul(**weight, {x.data(), DType::kF32, 1, kCols},
                       {result.y.data(), DType::kF32, 1, kRows});
    return result;
  }

  // After the file was spoilt: not used, and whole again for the start after.
  void ExpectPackedAnew(const std::string& what) {
    const Result damaged = Run();
    EXPECT_EQ(damaged.found, 0) << what;
    EXPECT_EQ(damaged.added, 1) << what;
    EXPECT_EQ(damaged.y, first_.y) << what;
    EXPECT_EQ(Run().found, 1) << what;
  }

  static constexpr size_t kOffset = 13;
  const fakes::TempDirectory folder_;
  const std::string source_ = folder_.File("model.bin");
  const std::string path_ = folder_.File("model.trireme-packed");
  Result first_;
};

TEST_F(PackedWeightsTest, SecondStartPacksNothingAndGivesTheSameBits) {
  first_ = Run();
  ASSERT_TRUE(first_.written.ok()) << first_.written;
  EXPECT_EQ(first_.added, 1);
  const Result second = Run();
  EXPECT_EQ(second.found, 1);
  EXPECT_EQ(second.added, 0);
  EXPECT_EQ(second.y, first_.y);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

TEST_F(PackedWeightsTest, AnyByteThatChangedIsFoundAndPackedAnew) {
  first_ = Run();
  const std::string whole = fakes::ReadFile(path_);
  // Every byte of header and table, some of the matrix. Padding before it has no meaning.
  for (size_t at = 0; at < whole.size(); at += at < kHeaderBytes + 32 ? 1 : 509) {
    if (at >= kHeaderBytes + 32 && at < 128) continue;
    std::string flipped = fakes::ReadFile(path_);
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    fakes::WriteFile(path_, flipped);
    ExpectPackedAnew("byte " + std::to_string(at));
  }
}

TEST_F(PackedWeightsTest, AFileCutOffAnywhereIsPackedAnew) {
  first_ = Run();
  const std::string whole = fakes::ReadFile(path_);
  for (const size_t size : {size_t{0}, size_t{1}, kHeaderBytes - 1, kHeaderBytes, kHeaderBytes + 31,
                            size_t{4096}, whole.size() - 1}) {
    fakes::WriteFile(path_, whole.substr(0, size));
    ExpectPackedAnew("size " + std::to_string(size));
  }
}

TEST_F(PackedWeightsTest, AnotherModelUnderTheSameNameIsPackedAnew) {
  first_ = Run();
  WriteSource(2);
  const Result other = Run();
  EXPECT_EQ(other.found, 0);
  EXPECT_NE(other.y, first_.y);
  EXPECT_EQ(Run().y, other.y);
}

TEST_F(PackedWeightsTest, AFileThatOthersMayWriteIsNotRead) {
  first_ = Run();
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  ExpectPackedAnew("world-writable");
}

TEST_F(PackedWeightsTest, ASymbolicLinkIsNotFollowed) {
  first_ = Run();
  const std::string elsewhere = folder_.File("elsewhere");
  std::filesystem::rename(path_, elsewhere);
  std::filesystem::create_symlink(elsewhere, path_);
  ExpectPackedAnew("link");
}

TEST_F(PackedWeightsTest, AFileThatCannotBeWrittenIsNoFailureOfTheStart) {
  first_ = Run();
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_ + ".new");  // nothing can be written under that name
  const Result result = Run();
  EXPECT_FALSE(result.written.ok());
  EXPECT_EQ(result.y, first_.y);
}

TEST_F(PackedWeightsTest, WhatADeadWriterLeftIsWrittenOver) {
  fakes::WriteFile(path_ + ".new", std::string(100'000, 'x'));
  first_ = Run();
  EXPECT_TRUE(first_.written.ok()) << first_.written;
  EXPECT_EQ(Run().found, 1);
}

// Files of older programs are told apart by kPanelLayoutVersion alone: they would be mapped, and
// wrong, if the bytes changed under one version.
TEST(PanelLayout, HasAVersionForItsBytes) {
  ASSERT_EQ(cpu::kPanelLayoutVersion, 1u) << "write down the bytes of the new layout";
  constexpr uint64_t kBytes[] = {
      // by DType
      17530832197275854639u, 3423330813002991748u,  7965387466378153645u,  17152271999330606527u,
      7814116570021438787u,  16667048971832705961u, 16560203533327629054u, 12750418387010637904u,
      4080744428576661231u,  4343864987732155647u,  1265266656335587807u};
  for (size_t type = 0; type < std::size(kBytes); ++type) {
    const auto dtype = static_cast<DType>(type);
    constexpr int64_t kPackedRows = 40, kPackedCols = 512;
    const int64_t row_bytes = RowBytes(dtype, kPackedCols);
    std::vector<uint8_t> source(static_cast<size_t>(kPackedRows * row_bytes));
    // No byte makes an infinity or a NaN of a half, whose bits an instruction set may choose.
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 37 % 59);
    cpu::PackedMatrix packed = cpu::PlanMatrix(dtype, kPackedRows, kPackedCols);
    std::vector<uint8_t> bytes(static_cast<size_t>(packed.size_bytes()) + 64);
    packed.data = bytes.data() + (-reinterpret_cast<uintptr_t>(bytes.data()) & 63);
    cpu::PackPanels(source.data(), row_bytes, 0, packed.num_panels, packed);
    EXPECT_EQ(HashWords64({packed.data, static_cast<size_t>(packed.size_bytes())}), kBytes[type])
        << DTypeName(dtype) << ": raise kPanelLayoutVersion";
  }
}

}  // namespace
}  // namespace trireme
