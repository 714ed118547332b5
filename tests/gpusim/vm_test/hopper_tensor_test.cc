// Tensor copies and the maps that they follow.
#include <functional>
#include <numeric>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/tensor_map.h"
#include "tests/gpusim/vm_test/hopper_fixture.h"

namespace trireme::gpusim {
namespace {

using HopperTensorCopy = Hopper;

// in: a tensor [2][6][8] of u32.
TensorMap Tensor(uint64_t address, TensorType type, bool fill_nan, std::vector<uint32_t> box,
                 uint32_t step = 1) {
  static const uint64_t kSize[] = {8, 6, 2}, kStride[] = {32, 192};
  const uint32_t steps[] = {1, step, 1};
  TiledTensor tensor;
  tensor.data_type = static_cast<int>(type);
  tensor.rank = 3;
  tensor.oob_fill = fill_nan ? 1 : 0;
  tensor.global_address = address;
  tensor.global_dim = kSize;
  tensor.global_strides = kStride;
  tensor.box_dim = box.data();
  tensor.element_strides = steps;
  return EncodeTiled(tensor).value();
}

std::string LoadBox(int x, int y, int z, int bytes) {
  return StrCat(
      InitFor(1), "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], ", bytes,
      ";\n@%p1 cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%r3], [%rd3, {",
      x, ", ", y, ", ", z, "}], [%r4];\n", WaitParity(0), kReadBack, Out("%r11"));
}

TEST_F(HopperTensorCopy, LoadsABoxAndFillsWhatLiesOutside) {
  const TensorMap map = Tensor(in_, TensorType::kU32, false, {4, 4, 2});
  ExpectClean(LoadBox(-1, 4, 0, 128), 32, 1, &map);
  const std::vector<uint32_t> words = Words(32);
  // Lines y = 4, 5 are inside, 6, 7 are not; x = -1 is not.
  EXPECT_EQ(std::vector<uint32_t>(words.begin(), words.begin() + 8),
            (std::vector<uint32_t>{0, 32, 33, 34, 0, 40, 41, 42}));
  EXPECT_EQ(words[9], 0u);
  EXPECT_EQ(words[16 + 5], 48u + 40u);
  const TensorMap nan = Tensor(in_, TensorType::kF32, true, {4, 4, 2});
  ExpectClean(LoadBox(6, 0, 1, 128), 32, 1, &nan);
  EXPECT_EQ(Words(4)[1], 48u + 7u);
  EXPECT_EQ(Words(4)[2], 0x7fffffffu);
}

TEST_F(HopperTensorCopy, StepsOverElements) {
  const TensorMap map = Tensor(in_, TensorType::kU32, false, {4, 6, 1}, 2);
  ExpectClean(LoadBox(0, 1, 0, 48), 12, 1, &map);
  EXPECT_EQ(Words(12)[4], 24u);
  EXPECT_EQ(Words(12)[8], 40u);
}

TEST_F(HopperTensorCopy, StoresAndReducesOnlyWhatLiesInside) {
  const TensorMap map = Tensor(out_, TensorType::kU32, false, {4, 2, 1});
  ASSERT_TRUE(Run(Out("1000")).ok());
  const std::string fill = StrCat(kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n");
  const std::string end = "@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\n";
  ExpectClean(
      StrCat(fill,
             "@%p1 cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%rd3, {6, -1, 0}], "
             "[%r3];\n",
             end),
      32, 1, &map);
  EXPECT_EQ(Words(9)[5], 1000u);
  EXPECT_EQ(Words(9)[6], 11u);
  EXPECT_EQ(Words(9)[7], 12u);
  EXPECT_EQ(Words(9)[8], 1000u);
  ASSERT_TRUE(
      Run(StrCat(fill,
                 "@%p1 cp.reduce.async.bulk.tensor.3d.global.shared::cta.max.tile.bulk_group "
                 "[%rd3, {4, 0, 0}], [%r3];\n",
                 end),
          32, 1, &map)
          .ok());
  EXPECT_EQ(Words(8)[5], 1000u);
  EXPECT_EQ(Words(8)[6], 11u);  // 9 is less
}

TEST_F(HopperTensorCopy, IsOrderedWithOtherAccessesToTheTensor) {
  // Thread 32 overwrites what the copy reads; thread 0 reads what the copy has written.
  const TensorMap in = Tensor(in_, TensorType::kU32, false, {8, 4, 2});
  const std::string load = LoadBox(0, 0, 0, 256);
  const std::string overwrite = "setp.eq.u32 %p4, %r1, 32;\n@%p4 st.global.u32 [%rd2], 0;\n";
  ExpectClean(StrCat(load, "bar.sync 0;\n", overwrite), 64, 1, &in);
  ExpectFound(FindingKind::kRaceGlobal, "",
              StrCat(InitFor(1), overwrite, load.substr(InitFor(1).size())), 64, 1, &in);
  const TensorMap out = Tensor(out_, TensorType::kU32, false, {4, 2, 1});
  const std::string store = StrCat(
      kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n",
      "@%p1 cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%rd3, {0, 0, 0}], [%r3];\n"
      "@%p1 cp.async.bulk.commit_group;\n");
  const std::string read = "@%p1 ld.global.u32 %r11, [%rd1];\n";
  ExpectClean(StrCat(store, "@%p1 cp.async.bulk.wait_group 0;\n", read), 32, 1, &out);
  ExpectFound(FindingKind::kRaceGlobal, "",
              StrCat(store, "@%p1 cp.async.bulk.wait_group.read 0;\n", read), 32, 1, &out);
}

TEST_F(HopperTensorCopy, WhatIsNoTensorMapIsFound) {
  const TensorMap none;
  ExpectFound(FindingKind::kBadOperand, "no tensor map", LoadBox(0, 0, 0, 16), 32, 1, &none);
}

// A box that starts at the origin of a tensor of u32, whose rows follow each other, loaded as a
// whole by `threads` lanes that write one word each.
struct Plain {
  std::vector<uint64_t> size;  // innermost first
  std::vector<uint32_t> box;
  std::vector<int> at;
  TensorSwizzle swizzle = TensorSwizzle::kNone;

  TensorMap Map(uint64_t address) const {
    std::vector<uint64_t> strides;
    uint64_t bytes = 4;
    for (size_t i = 0; i + 1 < size.size(); ++i) strides.push_back(bytes *= size[i]);
    const std::vector<uint32_t> steps(size.size(), 1);
    TiledTensor tensor;
    tensor.data_type = static_cast<int>(TensorType::kU32);
    tensor.swizzle = static_cast<int>(swizzle);
    tensor.rank = static_cast<uint32_t>(size.size());
    tensor.global_address = address;
    tensor.global_dim = size.data();
    tensor.global_strides = strides.data();
    tensor.box_dim = box.data();
    tensor.element_strides = steps.data();
    return EncodeTiled(tensor).value();
  }
  int words() const {
    return static_cast<int>(
        std::accumulate(box.begin(), box.end(), uint32_t{1}, std::multiplies<>()));
  }
  std::string Load() const {
    std::string coordinates;
    for (const int c : at) coordinates += StrCat(coordinates.empty() ? "" : ", ", c);
    return StrCat(InitFor(1), "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], ",
                  words() * 4, ";\n@%p1 cp.async.bulk.tensor.", at.size(),
                  "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r3], [%rd3, {",
                  coordinates, "}], [%r4];\n", WaitParity(0), kReadBack, Out("%r11"));
  }
};

TEST_F(HopperTensorCopy, OneDimension) {
  const Plain line{{100}, {32}, {84}};
  const TensorMap map = line.Map(in_);
  ExpectClean(line.Load(), 32, 1, &map);
  EXPECT_EQ(Words(32)[15], 99u);
  EXPECT_EQ(Words(32)[16], 0u);  // outside
}

TEST_F(HopperTensorCopy, FourAndFiveDimensions) {
  const Plain four{{4, 3, 5, 7}, {4, 2, 1, 2}, {0, 1, 2, 3}};
  const TensorMap map4 = four.Map(in_);
  ExpectClean(four.Load(), four.words(), 1, &map4);
  const uint32_t first = 4 * (1 + 3 * (2 + 5 * 3));
  EXPECT_EQ(Words(16)[5], first + 5);
  EXPECT_EQ(Words(16)[8], first + 4 * 3 * 5);
  const Plain five{{4, 2, 3, 2, 4}, {4, 1, 2, 2, 2}, {0, 1, 1, 0, 3}};
  const TensorMap map5 = five.Map(in_);
  ExpectClean(five.Load(), five.words(), 1, &map5);
  const uint32_t start = 4 * (1 + 2 * (1 + 3 * (0 + 2 * 3)));
  const std::vector<uint32_t> words = Words(32);
  EXPECT_EQ(words[1], start + 1);
  EXPECT_EQ(words[4], start + 4 * 2);      // the next of the third dimension
  EXPECT_EQ(words[8], start + 4 * 2 * 3);  // of the fourth
  EXPECT_EQ(words[16], 0u);                // of the fifth: outside
}

// 16-byte chunks of eight lines, as the figures of "Swizzling Modes" have them: chunk c of a line
// is where the table says. Word w of the tensor is number w.
TEST_F(HopperTensorCopy, SwizzlesOf32And64BytesChangeChunksPlaces) {
  const Plain narrow{{8, 8}, {8, 8}, {0, 0}, TensorSwizzle::k32B};
  const TensorMap map32 = narrow.Map(in_);
  ExpectClean(narrow.Load(), 64, 1, &map32);
  constexpr uint32_t kChunks32[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 8, 11, 10, 13, 12, 15, 14};
  for (size_t chunk = 0; chunk < 16; ++chunk) {
    EXPECT_EQ(Words(64)[chunk * 4], kChunks32[chunk] * 4) << chunk;
  }
  const Plain wide{{16, 8}, {16, 8}, {0, 0}, TensorSwizzle::k64B};
  const TensorMap map64 = wide.Map(in_);
  ExpectClean(wide.Load(), 128, 1, &map64);
  constexpr uint32_t kOfLinePair[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
  for (size_t line = 0; line < 8; ++line) {
    for (size_t chunk = 0; chunk < 4; ++chunk) {
      EXPECT_EQ(Words(128)[line * 16 + chunk * 4], line * 16 + kOfLinePair[line / 2][chunk] * 4)
          << "line " << line << ", chunk " << chunk;
    }
  }
}

TEST(TensorMapEncode, RefusesWhatTheDriverRefuses) {
  const uint64_t size[] = {64, 64}, stride[] = {128};
  const uint32_t box[] = {64, 8}, step[] = {1, 1};
  TiledTensor good;
  good.data_type = 9;
  good.rank = 2;
  good.swizzle = 3;
  good.global_address = 4096;
  good.global_dim = size;
  good.global_strides = stride;
  good.box_dim = box;
  good.element_strides = step;
  EXPECT_TRUE(EncodeTiled(good).ok());
  const uint64_t no_size[] = {0, 64}, odd_stride[] = {136}, huge_stride[] = {uint64_t{1} << 40};
  const uint32_t big_box[] = {64, 257}, odd_box[] = {7, 8}, no_step[] = {1, 0}, big_step[] = {1, 9};
  const std::pair<std::string_view, std::function<void(TiledTensor*)>> kWrong[] = {
      {"data type", [](auto* t) { t->data_type = 99; }},
      {"rank", [](auto* t) { t->rank = 6; }},
      {"rank", [](auto* t) { t->rank = 0; }},
      {"globalAddress", [](auto* t) { t->global_address = 4104; }},
      {"globalDim[0]", [&](auto* t) { t->global_dim = no_size; }},
      {"globalStrides[0]", [&](auto* t) { t->global_strides = odd_stride; }},
      {"globalStrides[0]", [&](auto* t) { t->global_strides = huge_stride; }},
      {"boxDim[1]", [&](auto* t) { t->box_dim = big_box; }},
      {"no multiple of 16", [&](auto* t) { t->box_dim = odd_box; }},
      {"elementStrides[1]", [&](auto* t) { t->element_strides = no_step; }},
      {"elementStrides[1]", [&](auto* t) { t->element_strides = big_step; }},
      {"the swizzle spans 64", [](auto* t) { t->swizzle = 2; }},
      {"NaN fill", [](auto* t) { t->data_type = 1, t->oob_fill = 1; }},
  };
  for (const auto& [what, spoil] : kWrong) {
    TiledTensor bad = good;
    spoil(&bad);
    const absl::Status status = EncodeTiled(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_NE(status.message().find(std::string(what)), std::string::npos) << status.ToString();
  }
}

}  // namespace
}  // namespace trireme::gpusim
