#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/strings.h"
#include "runtime/weights/checkpoint.h"
#include "tests/fakes/files.h"
#include "tests/fakes/safetensors_writer.h"

namespace trireme {
namespace {

using fakes::SafetensorsFile;
using fakes::SafetensorsWriter;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  void Write(std::string_view name, std::string_view bytes) {
    fakes::WriteFile(directory_.File(name), bytes);
  }
  void ExpectRefused(const std::string& path, const std::string& message) {
    const absl::Status status = OpenSafetensors(path).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  // A single file with this header before 8 bytes of data.
  void ExpectHeaderRefused(std::string_view header, const std::string& message) {
    Write("bad.safetensors", SafetensorsFile(header, "12345678"));
    ExpectRefused(directory_.File("bad.safetensors"), message);
  }
  static std::string OneTensor(const std::string& name, const std::string& bytes) {
    SafetensorsWriter writer;
    writer.AddTensor(name, DType::kF16, {static_cast<int64_t>(bytes.size() / 2)}, bytes);
    return writer.Serialize();
  }

  fakes::TempDirectory directory_;
};

TEST_F(Safetensors, SingleFileIsReadByPathOrByFolder) {
  SafetensorsWriter writer;
  writer.AddTensor("w", DType::kBF16, {2, 3}, "aabbccddeeff");
  writer.AddTensor("scalar", DType::kF32, {}, "1234");
  writer.AddTensor("empty", DType::kF32, {0, 4}, "");
  Write("model.safetensors", writer.Serialize());
  for (const std::string& path : {directory_.path(), directory_.File("model.safetensors")}) {
    auto checkpoint = OpenSafetensors(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto w = (*checkpoint)->Find("w");
    ASSERT_TRUE(w.ok());
    EXPECT_EQ(w->dtype, DType::kBF16);
    EXPECT_THAT(w->shape, testing::ElementsAre(2, 3));
    EXPECT_EQ(std::string(static_cast<const char*>(w->data), 12), "aabbccddeeff");
    EXPECT_EQ((*checkpoint)->size_bytes(), 16);
    EXPECT_THAT((*checkpoint)->Names(), testing::ElementsAre("empty", "scalar", "w"));
    EXPECT_TRUE((*checkpoint)->Health().ok());
  }
}

TEST_F(Safetensors, ShardsAreReadThroughTheIndex) {
  Write("model-00001-of-00002.safetensors", OneTensor("a", "aa"));
  Write("model-00002-of-00002.safetensors", OneTensor("b", "bbbb"));
  Write("model.safetensors.index.json", R"({"metadata": {"total_size": 6}, "weight_map": {
    "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  auto checkpoint = OpenSafetensors(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(*static_cast<const char*>((*checkpoint)->Find("b")->data), 'b');
  EXPECT_EQ((*checkpoint)->size_bytes(), 6);
}

TEST_F(Safetensors, BadIndexesAreRefused) {
  Write("one.safetensors", OneTensor("a", "aa"));
  Write("two.safetensors", OneTensor("a", "aa"));
  const auto expect_refused = [&](std::string_view index, const std::string& message) {
    Write("model.safetensors.index.json", index);
    ExpectRefused(directory_.path(), message);
  };
  for (const char* outside :
       {"../one.safetensors", "/etc/passwd", "", "..", ".", "sub/one.safetensors",
        "sub\\\\one.safetensors", "one\\u0000.safetensors"}) {
    expect_refused(StrCat(R"({"weight_map": {"a": ")", outside, R"("}})"), "not a plain file name");
  }
  expect_refused(R"({"weight_map": {"a": 7}})", "not a plain file name");
  expect_refused(R"({"weight_map": []})", "weight_map must be an object");
  expect_refused(R"({})", "weight_map must be an object");
  expect_refused(R"([1])", "a JSON object is wanted");
  expect_refused(R"({"weight_map": {"a": "x\u001b[2J.safetensors"}})", "not a plain file name");
  expect_refused(R"({"weight_map": {"\u001b[2J": 7}})", "the file of tensor \\x1b[2J is not");
  expect_refused(R"({"weight_map": {"a": "gone.safetensors"}})",
                 directory_.File("gone.safetensors"));
  expect_refused(R"({"weight_map": {"a\nb": "one.safetensors"}})",
                 StrCat(directory_.File("one.safetensors"), ": no tensor a\\nb"));
  expect_refused(R"({"weight_map": {"z": "one.safetensors"}})", "no tensor z");
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})",
                 "a: the name appears twice");
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}})",
                 "key a appears twice");
}

TEST_F(Safetensors, FolderWithoutWeightsIsNotFound) {
  EXPECT_EQ(OpenSafetensors(directory_.path()).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(Safetensors, FileWithoutAWholeHeaderLengthIsTooShort) {
  fakes::WriteFile(directory_.File("bad.safetensors"), "12345");
  ExpectRefused(directory_.File("bad.safetensors"), "the file is too short: 5 bytes");
}

TEST_F(Safetensors, HeaderLengthBeyondTheFileIsRefused) {
  for (const uint64_t length : {uint64_t{3}, uint64_t{100'000'001}, UINT64_MAX, UINT64_MAX - 7}) {
    std::string bytes;
    fakes::AppendBytes(&bytes, length);
    Write("bad.safetensors", bytes + "{}");
    ExpectRefused(directory_.File("bad.safetensors"), "beyond the file");
  }
}

TEST_F(Safetensors, MetadataMustBeStrings) {
  const auto with = [&](std::string_view metadata) {
    return SafetensorsFile(StrCat(R"({"__metadata__":)", metadata,
                                  R"(,"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})"),
                           "ww");
  };
  for (const char* metadata : {"{}", R"({"format":"pt"})"}) {
    Write("model.safetensors", with(metadata));
    EXPECT_TRUE(OpenSafetensors(directory_.path()).ok()) << metadata;
  }
  for (const char* metadata : {"[]", "null", "\"x\"", R"({"format":1})", R"({"a":{"b":"c"}})"}) {
    Write("bad.safetensors", with(metadata));
    ExpectRefused(directory_.File("bad.safetensors"), "__metadata__: an object of strings");
  }
}

TEST_F(Safetensors, HostileNamesAreEscapedAndCutInMessages) {
  ExpectHeaderRefused(R"({"\u001b[2J\n": 5})", "tensor \\x1b[2J\\n: an object is wanted");
  const std::string longest(1 << 20, 'x');
  Write("bad.safetensors", SafetensorsFile(StrCat(R"({")", longest, R"(": 5})"), ""));
  EXPECT_LT(OpenSafetensors(directory_.File("bad.safetensors")).status().message().size(), 300u);
}

TEST_F(Safetensors, BadHeadersAreRefusedByTensor) {
  const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
    return StrCat(R"({"w":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets,
                  "}}");
  };
  ExpectHeaderRefused(tensor("\"I64\"", "[1]", "[0,8]"), "tensor w: dtype I64 is not supported");
  ExpectHeaderRefused(tensor("4", "[1]", "[0,8]"), "tensor w: dtype must be a string");
  ExpectHeaderRefused(tensor("\"F32\"", "[-2]", "[0,8]"), "tensor w: shape");
  ExpectHeaderRefused(tensor("\"F32\"", "[2.0]", "[0,8]"), "tensor w: shape");
  ExpectHeaderRefused(tensor("\"F32\"", "[18446744073709551615]", "[0,8]"), "tensor w: shape");
  ExpectHeaderRefused(tensor("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "tensor w: shape");
  ExpectHeaderRefused(tensor("\"F32\"", "[4294967296,4294967296,4]", "[0,8]"),
                      "product of its sizes");
  ExpectHeaderRefused(tensor("\"F32\"", "[2]", "[0]"), "tensor w: data_offsets");
  ExpectHeaderRefused(tensor("\"F32\"", "[2]", "[8,0]"), "tensor w: data_offsets");
  ExpectHeaderRefused(tensor("\"F32\"", "[2]", "[0,9223372036854775807]"), "its shape needs 8");
  ExpectHeaderRefused(tensor("\"F32\"", "[2]", "[4,12]"),
                      ".safetensors: tensor w: 8 bytes at offset 4 reach beyond the end");
  ExpectHeaderRefused(tensor("\"F32\"", "[1]", "[0,8]"), "its shape needs 4");
  ExpectHeaderRefused(tensor("\"F32\"", "[1]", "[4,8]"),
                      "tensor w begins at offset 4, behind a hole");
  ExpectHeaderRefused(tensor("\"F32\"", "[1]", "[0,4]"), "of which the tensors cover 4");
  ExpectHeaderRefused(R"({"w": 5})", "tensor w: an object is wanted");
  ExpectHeaderRefused(R"({"w": )", "header: not JSON");
  ExpectHeaderRefused(std::string(5000, '['), "header: not JSON");
  ExpectHeaderRefused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                          "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                      "tensor b begins at offset 4, inside another tensor");
  ExpectHeaderRefused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                          "a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}})",
                      "key a appears twice");
}

}  // namespace
}  // namespace trireme
