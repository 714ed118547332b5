#include "runtime/weights/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "runtime/base/strings.h"
#include "tests/fakes/files.h"
#include "tests/fakes/gguf_writer.h"

namespace trireme {
namespace {

using fakes::GgufWriter;
using testing::HasSubstr;

// Two tensors and a few entries: what the bad files below start from.
GgufWriter GoodFile() {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama");
  writer.SetUint32("llama.block_count", 30);
  writer.AddTensor("a.weight", DType::kF32, {3, 2}, std::string(24, 'a'));
  writer.AddTensor("b.weight", DType::kQ4_1, {2, 64}, std::string(80, 'b'));
  return writer;
}

class Gguf : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<GgufFile>> OpenBytes(std::string_view bytes) {
    fakes::WriteFile(path_, bytes);
    return GgufFile::Open(path_);
  }
  void ExpectRefused(std::string_view bytes, const std::string& message) {
    const absl::Status status = OpenBytes(bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  void ExpectRefused(const GgufWriter& writer, const std::string& message) {
    ExpectRefused(writer.Serialize(), message);
  }

  fakes::TempDirectory directory_;
  const std::string path_ = directory_.File("model.gguf");
};

TEST_F(Gguf, TensorsComeWithOutermostDimensionFirst) {
  for (const uint32_t version : {2, 3}) {
    GgufWriter writer = GoodFile();
    writer.version = version;
    auto file = OpenBytes(writer.Serialize());
    ASSERT_TRUE(file.ok()) << file.status();
    auto b = (*file)->Find("b.weight");
    ASSERT_TRUE(b.ok());
    EXPECT_EQ(b->dtype, DType::kQ4_1);
    EXPECT_THAT(b->shape, testing::ElementsAre(2, 64));
    EXPECT_EQ(std::string(static_cast<const char*>(b->data), 80), std::string(80, 'b'));
    EXPECT_THAT((*file)->Names(), testing::ElementsAre("a.weight", "b.weight"));
    EXPECT_EQ((*file)->size_bytes(), 104);
    EXPECT_EQ((*file)->Find("c").status().code(), absl::StatusCode::kNotFound);
  }
}

TEST_F(Gguf, EveryTensorTypeIsReadAtItsSize) {
  GgufWriter writer;
  for (int i = 0; i <= static_cast<int>(DType::kQ6_K); ++i) {
    const auto dtype = static_cast<DType>(i);
    writer.AddTensor(DTypeName(dtype), dtype, {2, 512},
                     std::string(2 * RowBytes(dtype, 512), '0' + i));
  }
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok()) << file.status();
  for (int i = 0; i <= static_cast<int>(DType::kQ6_K); ++i) {
    const auto dtype = static_cast<DType>(i);
    const auto view = (*file)->Find(DTypeName(dtype));
    ASSERT_TRUE(view.ok());
    EXPECT_EQ(view->dtype, dtype);
    EXPECT_EQ(static_cast<const char*>(view->data)[view->size_bytes() - 1], '0' + i);
  }
}

TEST_F(Gguf, MetadataIsReadByKindNotWidth) {
  GgufWriter writer = GoodFile();
  writer.SetRaw("u8", GgufType::kUint8, "\x07");
  writer.SetRaw("i16", GgufType::kInt16, std::string_view("\xfe\xff", 2));
  writer.SetRaw("u64", GgufType::kUint64, std::string(8, '\xff'));
  writer.SetFloat("float", 0.5f);
  writer.SetBool("bool", true);
  writer.SetStrings("strings", {"x", "", "yz"});
  writer.SetInts("ints", {1, -2});
  writer.SetFloats("floats", {1.5f});
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->Int("u8"), 7);
  EXPECT_EQ((*file)->Int("i16"), -2);
  EXPECT_EQ((*file)->Int("u64"), std::nullopt);  // does not fit
  EXPECT_EQ((*file)->Int("float"), std::nullopt);
  EXPECT_EQ((*file)->Int("ints"), std::nullopt);
  EXPECT_EQ((*file)->Int("absent"), std::nullopt);
  EXPECT_EQ((*file)->Float("float"), 0.5);
  EXPECT_EQ((*file)->Bool("bool"), true);
  EXPECT_EQ((*file)->String("general.architecture"), "llama");
  EXPECT_THAT((*file)->Strings("strings"), testing::ElementsAre("x", "", "yz"));
  EXPECT_THAT((*file)->Strings("ints"), testing::IsEmpty());
  EXPECT_THAT((*file)->Ints("ints"), testing::ElementsAre(1, -2));
  EXPECT_THAT((*file)->Floats("floats"), testing::ElementsAre(1.5f));
}

TEST_F(Gguf, DescriptionIsShortAndPrintable) {
  GgufWriter writer;
  writer.SetString("text", "line\n\x1b[31m" + std::string(1000, 'x'));
  writer.SetInts("many", {1, 2, 3, 4, 5, 6, 7});
  writer.SetFloat("eps", 1e-5f);
  writer.SetRaw("huge", GgufType::kUint64, std::string(8, '\xff'));
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto lines = (*file)->Describe();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], std::pair(std::string("eps"), std::string("1e-05")));
  EXPECT_EQ(lines[1].second, "above 2^63");
  EXPECT_EQ(lines[2].second, "[1, 2, 3, 4, 5, ... 7 in all]");
  EXPECT_LT(lines[3].second.size(), 120u);
  EXPECT_EQ(lines[3].second.find_first_of("\n\x1b"), std::string::npos);
}

TEST_F(Gguf, AlignmentKeyMovesTheData) {
  GgufWriter writer;
  writer.alignment = 256;
  writer.SetUint32("general.alignment", 256);
  writer.AddTensor("a", DType::kF32, {1}, "aaaa");
  writer.AddTensor("b", DType::kF32, {1}, "bbbb");
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*static_cast<const char*>((*file)->Find("b")->data), 'b');
}

TEST_F(Gguf, BadHeadersAreRefused) {
  ExpectRefused("GGML....................", "not a GGUF file");
  ExpectRefused("GG", "not a GGUF file");
  ExpectRefused("GGUF\x03", "ends inside the header");
  GgufWriter writer = GoodFile();
  writer.version = 1;
  ExpectRefused(writer, "version 1");
  writer.version = 4;
  ExpectRefused(writer, "version 4");
  writer.version = 0x03000000;
  ExpectRefused(writer, "big-endian");
}

TEST_F(Gguf, ClaimedCountsBeyondTheFileAreRefused) {
  for (const int64_t count : {int64_t{3}, int64_t{1} << 40, INT64_MAX}) {
    GgufWriter writer = GoodFile();
    writer.num_tensors_claimed = count;
    EXPECT_FALSE(OpenBytes(writer.Serialize()).ok());
    writer = GoodFile();
    writer.num_entries_claimed = count;
    EXPECT_FALSE(OpenBytes(writer.Serialize()).ok());
  }
}

TEST_F(Gguf, EveryTruncationIsRefused) {
  const std::string bytes = GoodFile().Serialize();
  for (size_t size = 1; size < bytes.size(); ++size) {
    EXPECT_FALSE(OpenBytes(std::string_view(bytes).substr(0, size)).ok()) << size;
  }
}

// Every single-byte change either opens or is refused; nothing else may happen (run under
// sanitizers too).
TEST_F(Gguf, NoByteChangeBreaksTheReader) {
  GgufWriter writer = GoodFile();
  writer.SetStrings("tokens", {"a", "bc"});
  const std::string good = writer.Serialize();
  int refused = 0;
  for (size_t i = 0; i < good.size() - writer.data.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ flip);
      const auto file = OpenBytes(bytes);
      if (!file.ok()) {
        ++refused;
        continue;
      }
      (*file)->Describe();
      (*file)->Strings("tokens");
      for (const std::string& name : (*file)->Names()) {
        const auto view = (*file)->Find(name);
        const auto* data = static_cast<const volatile char*>(view->data);
        EXPECT_NE(data[view->size_bytes() - 1], '?');
      }
    }
  }
  EXPECT_GT(refused, 100);
}

TEST_F(Gguf, BadMetadataIsRefusedByName) {
  const std::pair<std::function<void(GgufWriter&)>, std::string> cases[] = {
      {[](GgufWriter& w) { w.SetUint32("llama.block_count", 31); },
       "llama.block_count appears twice"},
      {[](GgufWriter& w) { w.SetRaw("k", static_cast<GgufType>(13), "x"); },
       "key k: unknown type 13"},
      {[](GgufWriter& w) { w.SetRaw("k", GgufType::kBool, "\x02"); }, "key k: a bool"},
      {[](GgufWriter& w) {
         std::string nested;
         fakes::AppendBytes<uint32_t>(&nested, 9);
         fakes::AppendBytes<uint64_t>(&nested, 1);
         w.SetRaw("k", GgufType::kArray, nested);
       },
       "key k: an array of arrays"},
      {[](GgufWriter& w) {
         std::string huge;
         fakes::AppendBytes<uint32_t>(&huge, static_cast<uint32_t>(GgufType::kFloat64));
         fakes::AppendBytes<uint64_t>(&huge, uint64_t{1} << 61);  // 8 times that is 2^64
         w.SetRaw("k", GgufType::kArray, huge);
       },
       "key k: the file ends inside it"},
      {[](GgufWriter& w) {
         std::string huge;
         fakes::AppendBytes<uint64_t>(&huge, UINT64_MAX);
         w.SetRaw("k", GgufType::kString, huge);
       },
       "key k: the file ends inside it"},
      {[](GgufWriter& w) { w.SetUint32("", 1); }, "a key of 0 bytes"},
      {[](GgufWriter& w) { w.SetUint32(std::string(65536, 'k'), 1); }, "a key of 65536 bytes"},
      {[](GgufWriter& w) { w.SetUint32("general.alignment", 0); }, "general.alignment"},
      {[](GgufWriter& w) { w.SetUint32("general.alignment", 48); }, "general.alignment"},
      {[](GgufWriter& w) { w.SetString("general.alignment", "32"); }, "general.alignment"},
  };
  for (const auto& [change, message] : cases) {
    GgufWriter writer = GoodFile();
    change(writer);
    ExpectRefused(writer, message);
  }
}

TEST_F(Gguf, BadTensorsAreRefusedByName) {
  const std::pair<std::function<void(GgufWriter&)>, std::string> cases[] = {
      {[](GgufWriter& w) { w.tensors[1].name = "a.weight"; }, "a.weight: the name appears twice"},
      {[](GgufWriter& w) { w.tensors[1].name = ""; }, "tensor 1 has a name of 0 bytes"},
      {[](GgufWriter& w) { w.tensors[1].name = std::string(65, 'n'); }, "a name of 65 bytes"},
      {[](GgufWriter& w) { w.tensors[1].type = 23; },
       "b.weight: tensor type IQ4_XS is not supported"},
      {[](GgufWriter& w) { w.tensors[1].type = 99; }, "b.weight: unknown tensor type 99"},
      {[](GgufWriter& w) { w.tensors[1].dims = {}; }, "b.weight: 0 dimensions"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {32, 1, 1, 1, 1};
       },
       "b.weight: 5 dimensions"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {64, 0};
       },
       "b.weight: dimension 1 is 0"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {64, uint64_t{1} << 63};
       },
       "b.weight: dimension 1"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {uint64_t{1} << 32, uint64_t{1} << 32};
       },
       "b.weight: the product of its sizes"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {48, 2};
       },
       "b.weight: rows of 48 elements"},
      {[](GgufWriter& w) {
         w.tensors[1].dims = {64, 3};
       },
       "b.weight: 120 bytes at offset 32"},
      {[](GgufWriter& w) { w.tensors[1].offset = 1 << 20; },
       "b.weight: 80 bytes at offset 1048576"},
      {[](GgufWriter& w) { w.tensors[1].offset = UINT64_MAX - 31; }, "beyond the end of the file"},
      {[](GgufWriter& w) { w.tensors[1].offset = 33; },
       "b.weight: offset 33 is not a multiple of 32"},
      {[](GgufWriter& w) { w.tensors[1].offset = 0; }, "overlap"},
  };
  for (const auto& [change, message] : cases) {
    GgufWriter writer = GoodFile();
    change(writer);
    ExpectRefused(writer, message);
  }
}

#if !defined(__SANITIZE_ADDRESS__)  // ASan takes SIGBUS for itself
TEST_F(Gguf, TruncationWhileMappedIsDataLoss) {
  GgufWriter writer = GoodFile();
  writer.AddTensor("big", DType::kF32, {16384}, std::string(65536, 'x'));
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Health().ok());
  ASSERT_EQ(truncate(path_.c_str(), 4096), 0);
  const auto big = (*file)->Find("big");
  EXPECT_EQ(static_cast<const char*>(big->data)[60000], 0);
  EXPECT_EQ((*file)->Health().code(), absl::StatusCode::kDataLoss);
}
#endif

TEST_F(Gguf, ReleasedTensorsStayReadable) {
  GgufWriter writer;
  writer.AddTensor("big", DType::kF32, {16384}, std::string(65536, 'x'));
  auto file = OpenBytes(writer.Serialize());
  ASSERT_TRUE(file.ok());
  const auto big = (*file)->Find("big");
  (*file)->Release(*big);
  EXPECT_EQ(static_cast<const char*>(big->data)[30000], 'x');
}

}  // namespace
}  // namespace trireme
