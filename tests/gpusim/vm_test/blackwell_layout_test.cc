// tcgen05's layouts and descriptors against CUTLASS's, and its ld, st and waits in PTX.
#include <numeric>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/tcgen05_mma.h"
#include "tests/gpusim/vm_test/cutlass_layouts.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

TEST(TensorDescriptor, PlacesEveryChunkWhereCutlassDoes) {
  ASSERT_EQ(Cutlass().tensor_operands.size(), 8u);
  for (const CutlassOperand& expected : Cutlass().tensor_operands) {
    SharedOperand operand;
    ASSERT_TRUE(MatrixDescriptor::OfTcgen05(expected.descriptor, &operand.descriptor));
    operand.type = expected.element_bytes == 1 ? MatrixElement::kS8 : MatrixElement::kBf16;
    operand.rows = expected.rows;
    operand.mn_major = expected.mn_major != 0;
    EXPECT_EQ(operand.Chunks(), expected.chunks) << expected.descriptor;
  }
}

TEST(TensorDescriptor, OnesThatAreNotKnownAreRefused) {
  MatrixDescriptor descriptor;
  const uint64_t good = Cutlass().tensor_operands[0].descriptor;
  EXPECT_FALSE(MatrixDescriptor::OfTcgen05(good & ~(uint64_t{1} << 46), &descriptor));  // Hopper's
  EXPECT_FALSE(
      MatrixDescriptor::OfTcgen05((good & ~(uint64_t{7} << 61)) | uint64_t{1} << 61, &descriptor));
  EXPECT_FALSE(MatrixDescriptor::OfTcgen05(good | uint64_t{1} << 52, &descriptor));
}

using Kind = TensorMmaForm::Kind;

TensorMma Parsed(const std::string& name, Kind kind, int scales = 0) {
  TensorMma mma;
  mma.form.kind = kind;
  mma.form.scales = static_cast<uint8_t>(scales);
  EXPECT_EQ(ParseInstructionDescriptor(Cutlass().instructions.at(name), &mma), "") << name;
  return mma;
}

TEST(InstructionDescriptor, SaysWhatCutlassMeant) {
  const TensorMma bf16 = Parsed("bf16_128x128", Kind::kF16);
  EXPECT_EQ(bf16.type_a, MatrixElement::kBf16);
  EXPECT_EQ(bf16.m, 128);
  EXPECT_EQ(bf16.n, 128);
  EXPECT_FALSE(bf16.a_is_mn_major || bf16.b_is_mn_major);
  const TensorMma f16 = Parsed("f16_64x24_mn", Kind::kF16);
  EXPECT_EQ(f16.type_b, MatrixElement::kF16);
  EXPECT_EQ(f16.m, 64);
  EXPECT_EQ(f16.n, 24);
  EXPECT_TRUE(f16.a_is_mn_major && f16.b_is_mn_major);
  const TensorMma fp8 = Parsed("e4m3_e5m2_128x256", Kind::kF8f6f4);
  EXPECT_EQ(fp8.type_a, MatrixElement::kE4m3);
  EXPECT_EQ(fp8.type_b, MatrixElement::kE5m2);
  EXPECT_EQ(fp8.n, 256);
  const TensorMma nvf4 = Parsed("nvf4_128x128", Kind::kMxf4nvf4, 4);
  EXPECT_EQ(nvf4.type_a, MatrixElement::kE2m1);
  EXPECT_FALSE(nvf4.scales_are_ue8m0);
  const TensorMma mxf4 = Parsed("mxf4_128x64", Kind::kMxf4, 2);
  EXPECT_TRUE(mxf4.scales_are_ue8m0);
  EXPECT_EQ(mxf4.n, 64);
}

TEST(InstructionDescriptor, ShapesThatDoNotExistAreRefused) {
  const uint32_t good = Cutlass().instructions.at("bf16_128x128");
  for (const uint32_t bad : {good & ~(31u << 24), good & ~(63u << 17), good | 1u << 17, good | 4u,
                             good & ~(3u << 4), good | 7u << 7}) {
    TensorMma mma;
    EXPECT_NE(ParseInstructionDescriptor(bad, &mma), "") << bad;
  }
}

TEST(TensorSums, LieInTheLanesThatCutlassNames) {
  for (const auto& [m, lanes] : Cutlass().sums) {
    TensorMma mma;
    mma.m = m;
    for (int row = 0; row < m; ++row) EXPECT_EQ(mma.LaneOf(row), lanes[static_cast<size_t>(row)]);
  }
}

// ---- ld and st in PTX. One warp; its 32 lanes of tensor memory get column + 1000 lane.

constexpr char kHead[] = R"(.version 8.7
.target sm_100a
.address_size 64
.visible .entry Test(.param .u64 out) .maxntid 32, 1, 1
{
  .reg .pred %p<8>;
  .reg .b32 %r<200>;
  .reg .b64 %rd<8>;
  .shared .align 8 .b64 place;
  ld.param.u64 %rd1, [out];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, place;
  tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32;
  bar.sync 0;
  ld.shared.u32 %r3, [%r2];
)";

std::string Registers(int first, int n) {
  std::string list;
  for (int i = 0; i < n; ++i) list += StrCat(i == 0 ? "" : ", ", "%r", first + i);
  return "{" + list + "}";
}

std::string Fill(int columns) {
  std::string text = "  mul.lo.u32 %r4, %r1, 1000;\n";
  for (int i = 0; i < columns; ++i) text += StrCat("  add.u32 %r", 100 + i, ", %r4, ", i, ";\n");
  return text + StrCat("  tcgen05.st.sync.aligned.32x32b.x", columns, ".b32 [%r3], ",
                       Registers(100, columns), ";\n  tcgen05.wait::st.sync.aligned;\n");
}

std::string Store(int registers) {
  std::string text =
      StrCat("  mul.wide.u32 %rd2, %r1, ", 4 * registers, ";\n  add.u64 %rd2, %rd1, %rd2;\n");
  for (int i = 0; i < registers; ++i) {
    text += StrCat("  st.global.u32 [%rd2+", 4 * i, "], %r", 10 + i, ";\n");
  }
  return text;
}

const char kFree[] = "  tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r3, 32;\n";

struct Ran {
  absl::Status status;
  std::vector<uint32_t> out;
  Bench bench;
};
void RunTest(const std::string& body, size_t words, Ran* ran) {
  const uint64_t out = ran->bench.Reserve(words * 4);
  std::vector<char> params;
  Put(&params, 0, out);
  LaunchConfig config;
  config.block = {32, 1, 1};
  ran->status = ran->bench.Run(StrCat(kHead, body, "  ret;\n}\n"), config, params);
  ran->out = ran->bench.Download<uint32_t>(out, words);
}

TEST(TensorTransfer, ShapesLieWhereCutlassSays) {
  for (const auto& [name, load] : Cutlass().tensor_loads) {
    Ran ran;
    RunTest(StrCat(Fill(32), "  tcgen05.ld.sync.aligned.", name, ".x4.b32 ",
                   Registers(10, load.registers), ", [%r3];\n  tcgen05.wait::ld.sync.aligned;\n",
                   Store(load.registers), kFree),
            static_cast<size_t>(32 * load.registers), &ran);
    ASSERT_TRUE(ran.status.ok()) << name << ran.status << ran.bench.AllFindings();
    EXPECT_TRUE(ran.bench.findings.empty()) << name << ran.bench.AllFindings();
    for (size_t i = 0; i < load.cells.size(); ++i) {
      const int lane = load.cells[i] % 32, column = load.cells[i] / 32;
      ASSERT_EQ(ran.out[i], static_cast<uint32_t>(1000 * lane + column)) << name << " " << i;
    }
  }
}

// The other direction: what each thread holds goes where CUTLASS's load would take it from.
TEST(TensorTransfer, StoresLieWhereCutlassSaysLoadsDo) {
  for (const auto& [name, load] : Cutlass().tensor_loads) {
    // Registers of thread t hold 1000 t + i; each lane's columns are read one register a column.
    std::string store = StrCat(Fill(32), "  mul.lo.u32 %r4, %r1, 1000;\n");
    for (int i = 0; i < load.registers; ++i) {
      store += StrCat("  add.u32 %r", 140 + i, ", %r4, ", 500 + i, ";\n");
    }
    store += StrCat("  tcgen05.st.sync.aligned.", name, ".x4.b32 [%r3], ",
                    Registers(140, load.registers), ";\n  tcgen05.wait::st.sync.aligned;\n",
                    "  tcgen05.ld.sync.aligned.32x32b.x32.b32 ", Registers(10, 32),
                    ", [%r3];\n  tcgen05.wait::ld.sync.aligned;\n", Store(32), kFree);
    Ran ran;
    RunTest(store, 32 * 32, &ran);
    ASSERT_TRUE(ran.status.ok()) << name << ran.status << ran.bench.AllFindings();
    EXPECT_TRUE(ran.bench.findings.empty()) << name << ran.bench.AllFindings();
    for (size_t i = 0; i < load.cells.size(); ++i) {
      const auto lane = static_cast<size_t>(load.cells[i] % 32);
      const auto column = static_cast<size_t>(load.cells[i] / 32);
      const size_t thread = i / static_cast<size_t>(load.registers);
      ASSERT_EQ(ran.out[lane * 32 + column],
                1000 * thread + 500 + i % static_cast<size_t>(load.registers))
          << name << " lane " << lane << ", column " << column;
    }
  }
}

TEST(TensorTransfer, AStoreOfAShapeIsItsLoad) {
  Ran ran;
  RunTest(StrCat(Fill(32), "  tcgen05.ld.sync.aligned.16x256b.x2.b32 ", Registers(10, 8),
                 ", [%r3];\n  tcgen05.wait::ld.sync.aligned;\n"
                 "  tcgen05.st.sync.aligned.16x256b.x2.b32 [%r3+16], ",
                 Registers(10, 8), ";\n  tcgen05.wait::st.sync.aligned;\n",
                 "  tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r10}, [%r3+21];\n"
                 "  tcgen05.wait::ld.sync.aligned;\n",
                 Store(1), kFree),
          32, &ran);
  EXPECT_TRUE(ran.status.ok() && ran.bench.findings.empty())
      << ran.status << ran.bench.AllFindings();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(ran.out[lane], 1000 * lane + (lane < 16 ? 5 : 21));
  }
}

struct Wrong {
  const char* name;
  std::string body;
  FindingKind kind;
  friend void PrintTo(const Wrong& wrong, std::ostream* os) { *os << wrong.name; }
};
class TensorMemoryMisuse : public testing::TestWithParam<Wrong> {};
TEST_P(TensorMemoryMisuse, IsFound) {
  Ran ran;
  RunTest(GetParam().body, 32, &ran);
  EXPECT_TRUE(ran.bench.Found(GetParam().kind)) << ran.status << ran.bench.AllFindings();
}

const char kLoad[] = "  tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r10}, [%r3];\n";
const char kWait[] = "  tcgen05.wait::ld.sync.aligned;\n";
INSTANTIATE_TEST_SUITE_P(
    , TensorMemoryMisuse,
    testing::Values(
        Wrong{"NotFreed", "", FindingKind::kInFlight},
        Wrong{"ReadBeforeItIsWritten", StrCat(kLoad, kWait, kFree),
              FindingKind::kUninitializedTensor},
        Wrong{"RegisterUsedBeforeTheWait", StrCat(Fill(32), kLoad, Store(1), kWait, kFree),
              FindingKind::kUninitializedRegister},
        Wrong{"LoadNeverWaitedFor", StrCat(Fill(32), kLoad, kFree), FindingKind::kInFlight},
        Wrong{"LoadBehindAStoreWithoutWait",
              StrCat("  tcgen05.st.sync.aligned.32x32b.x1.b32 [%r3], {%r1};\n", kLoad, kWait,
                     "  tcgen05.wait::st.sync.aligned;\n", kFree),
              FindingKind::kInFlight},
        Wrong{"AnotherWarpsLanes",
              StrCat(Fill(32),
                     "  add.u32 %r5, %r3, 2097152;\n"
                     "  tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r10}, [%r5];\n",
                     kWait, kFree),
              FindingKind::kBadOperand},
        Wrong{"BeyondItsColumns",
              StrCat(Fill(32), "  tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r10}, [%r3+32];\n", kWait,
                     kFree),
              FindingKind::kOutOfBounds},
        Wrong{"FreedTwice", StrCat(kFree, kFree), FindingKind::kBadOperand},
        Wrong{
            "OddNumberOfColumns",
            StrCat("  tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 48;\n", kFree),
            FindingKind::kBadOperand},
        Wrong{"MoreThanThereIs",
              StrCat("  tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 512;\n",
                     kFree),
              FindingKind::kDeadlock},
        Wrong{"AllocatesWithoutPermit",
              StrCat("  tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;\n"
                     "  tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32;\n",
                     kFree),
              FindingKind::kBarrierMisuse}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(TensorMemory, ColumnsAreGivenOutAndTakenBack) {
  TensorMemory memory;
  EXPECT_EQ(memory.Allocate(256), 0);
  EXPECT_EQ(memory.Allocate(64), 256);
  EXPECT_EQ(memory.Allocate(256), -1);
  EXPECT_FALSE(memory.Free(0, 128));
  EXPECT_FALSE(memory.Free(32, 256));
  EXPECT_TRUE(memory.Free(0, 256));
  EXPECT_EQ(memory.allocated(), 64);
  EXPECT_EQ(memory.Allocate(128), 0);
  EXPECT_FALSE(memory.Holds({0, 128, 120, 16}));
  EXPECT_TRUE(memory.Holds({0, 128, 112, 16}));
}

}  // namespace
}  // namespace trireme::gpusim
