#include "tests/gpusim/cudart/fat_binary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace trireme::gpusim {
namespace {

template <typename T>
void Put(std::string* bytes, size_t at, T value) {
  if (bytes->size() < at + sizeof(T)) bytes->resize(at + sizeof(T));
  std::memcpy(bytes->data() + at, &value, sizeof(T));
}

// One container with one PTX entry.
std::string Container(std::string_view ptx) {
  std::string bytes;
  Put<uint32_t>(&bytes, 0, 0xba55ed50);
  Put<uint16_t>(&bytes, 4, 1);
  Put<uint16_t>(&bytes, 6, 16);
  Put<uint64_t>(&bytes, 8, 64 + ptx.size());
  Put<uint16_t>(&bytes, 16, 1);   // PTX
  Put<uint32_t>(&bytes, 20, 64);  // the entry's header
  Put<uint64_t>(&bytes, 24, ptx.size());
  bytes.resize(16 + 64);
  return bytes.append(ptx);
}

struct Wrapper {
  explicit Wrapper(const std::string& bytes) : data(bytes.data()) {}
  uint32_t magic = 0x466243b1, version = 1;
  const char* data;
  const void* unused = nullptr;
};

TEST(FatBinaryTest, ThePtxOfAnEntryIsFound) {
  const std::string bytes = Container(".version 9.0\n.target sm_80\n");
  const Wrapper wrapper(bytes);
  const auto texts = PtxTextsOf(&wrapper);
  ASSERT_TRUE(texts.ok()) << texts.status().ToString();
  ASSERT_EQ(texts->size(), 1u);
  EXPECT_EQ((*texts)[0], ".version 9.0\n.target sm_80\n");
}

TEST(FatBinaryTest, EntriesThatRunOverTheEndAreRefused) {
  const std::string good = Container(".target sm_80\n");
  for (const size_t field : {20, 24}) {  // header, text
    std::string bytes = good;
    Put<uint32_t>(&bytes, field, 0x7fffffff);
    const Wrapper wrapper(bytes);
    EXPECT_FALSE(PtxTextsOf(&wrapper).ok()) << field;
  }
  std::string empty_header = good;
  Put<uint32_t>(&empty_header, 20, 0);
  const Wrapper wrapper(empty_header);
  EXPECT_FALSE(PtxTextsOf(&wrapper).ok());
}

TEST(FatBinaryTest, CompressedPtxSaysWhatToDo) {
  std::string bytes = Container("xxxx");
  Put<uint64_t>(&bytes, 16 + 40, 0x8011);
  const Wrapper wrapper(bytes);
  const auto texts = PtxTextsOf(&wrapper);
  EXPECT_THAT(std::string(texts.status().message()), testing::HasSubstr("--no-compress"));
}

TEST(FatBinaryTest, ADeviceTakesTheNewestPtxThatItMayRun) {
  const std::vector<std::string_view> texts = {".target sm_80\n", ".target sm_90a\n",
                                               ".target sm_89, debug\n", ".target sm_100f\n"};
  EXPECT_EQ(*ChoosePtx(texts, "sm_80"), texts[0]);
  EXPECT_EQ(*ChoosePtx(texts, "sm_89"), texts[2]);
  EXPECT_EQ(*ChoosePtx(texts, "sm_90a"), texts[1]);
  EXPECT_EQ(*ChoosePtx(texts, "sm_100a"), texts[3]);
  EXPECT_EQ(ChoosePtx({".target sm_90a\n"}, "sm_100a").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme::gpusim
