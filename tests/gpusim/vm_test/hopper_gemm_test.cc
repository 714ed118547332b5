// The whole of it: kernels/hopper_gemm.cu as nvcc compiles it, against plain sums, and mutants of
// its PTX that the checkers must catch.
#include <fstream>
#include <random>
#include <regex>
#include <sstream>

#include "tests/gpusim/gates/shared_bytes.h"
#include "tests/gpusim/gemm_error.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

std::string Ptx() {
  std::ifstream file(TRIREME_GEMM_PTX_FOLDER "/hopper_gemm.ptx");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

constexpr int kNoSwizzle = 0, kSwizzle128 = 3;

TensorMap Matrix(uint64_t address, int rows, int columns, uint32_t box_rows, int swizzle) {
  return MapOfMatrix(TensorType::kBf16, address, rows, columns, static_cast<uint64_t>(columns) * 2,
                     64, box_rows, swizzle);
}

struct Outcome {
  absl::Status status;
  double worst = 0;  // WorstGemmError()
  Bench bench;
};

struct Case {
  int m = 256, n = 128, k = 640;
  uint64_t seed = 1;
  MatrixRounding rounding = MatrixRounding::kFloatOrder;
  int swizzle_of_a = kSwizzle128;
};

void RunGemm(const std::string& ptx, const Case& c, Outcome* out) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto matrix = [&](int rows, int columns) {
    std::vector<uint16_t> values(static_cast<size_t>(rows * columns));
    for (uint16_t& v : values) v = ToBf16(normal(random));
    return values;
  };
  const std::vector<uint16_t> a = matrix(c.m, c.k), b = matrix(c.n, c.k);
  const size_t elements = static_cast<size_t>(c.m * c.n);
  const uint64_t result = out->bench.Reserve(elements * 2);
  std::vector<char> params;
  Put(&params, 0, Matrix(out->bench.Upload(a), c.m, c.k, 128, c.swizzle_of_a));
  Put(&params, 128, Matrix(out->bench.Upload(b), c.n, c.k, 128, kSwizzle128));
  Put(&params, 256, Matrix(result, c.m, c.n, 64, kSwizzle128));
  Put(&params, 384, (c.k + 63) / 64);
  LaunchConfig config;
  config.grid = {(c.n + 127) / 128, (c.m + 127) / 128, 1};
  config.block = {384, 1, 1};
  config.dynamic_shared_bytes = GatedSharedBytes("hopper_gemm.cu");
  config.seed = c.seed;
  config.matrix_rounding = c.rounding;
  out->status = out->bench.Run(ptx, config, params);
  const std::vector<uint16_t> got = out->bench.Download<uint16_t>(result, elements);
  const auto values = [](const std::vector<uint16_t>& of, int columns) {
    return
        [&of, columns](int i, int j) { return FromBf16(of[static_cast<size_t>(i * columns + j)]); };
  };
  out->worst = WorstGemmError(c.m, c.n, c.k, values(a, c.k), values(b, c.k), values(got, c.n));
}

class HopperGemm : public testing::Test {
 protected:
  void SetUp() override {
    if (Ptx().empty()) GTEST_SKIP() << "needs nvcc: build with the gpusim preset";
  }
};

TEST_F(HopperGemm, IsRightAndWithoutFindingsUnderManySchedules) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    for (const MatrixRounding rounding : {MatrixRounding::kFloatOrder, MatrixRounding::kTruncate}) {
      Outcome out;
      RunGemm(Ptx(), {.m = 128, .n = 128, .k = 640, .seed = seed, .rounding = rounding}, &out);
      ASSERT_TRUE(out.status.ok()) << out.bench.AllFindings();
      EXPECT_TRUE(out.bench.findings.empty()) << out.bench.AllFindings();
      EXPECT_LE(out.worst, 1) << "seed " << seed;
    }
  }
}

TEST_F(HopperGemm, ClipsWhatLiesOutsideTheTensors) {
  Outcome out;
  RunGemm(Ptx(), {.m = 200, .n = 136, .k = 200}, &out);
  EXPECT_TRUE(out.bench.findings.empty()) << out.bench.AllFindings();
  EXPECT_LE(out.worst, 1);
}

TEST_F(HopperGemm, CountsItsMultiplicationsAndBytes) {
  Outcome out;
  RunGemm(Ptx(), {.m = 128, .n = 128, .k = 256}, &out);
  EXPECT_EQ(out.bench.counters.wgmma, 2u * 4u * 4u);  // warpgroups, steps, k of 16
  EXPECT_EQ(out.bench.counters.tma_bytes, 4u * 2u * 128u * 64u * 2u + 128u * 128u * 2u);
}

// ---- Mutants. Each replaces text in the PTX; `kind` is the checker that should see it.

struct Mutant {
  const char* name;
  const char* find;
  const char* replacement;
  FindingKind kind;
  int swizzle_of_a = kSwizzle128;
  friend void PrintTo(const Mutant& m, std::ostream* os) { *os << m.name; }
};

class HopperGemmMutant : public HopperGemm, public testing::WithParamInterface<Mutant> {};

TEST_P(HopperGemmMutant, IsCaught) {
  const Mutant& mutant = GetParam();
  const std::string ptx = Ptx();
  const std::regex pattern(mutant.find);
  ASSERT_TRUE(std::regex_search(ptx, pattern)) << "nothing to mutate";
  const std::string mutated = std::regex_replace(ptx, pattern, mutant.replacement);
  bool wrong = false;
  std::string all;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Outcome out;
    RunGemm(mutated,
            {.m = 128, .n = 128, .k = 640, .seed = seed, .swizzle_of_a = mutant.swizzle_of_a},
            &out);
    wrong |= out.worst > 1;
    all += out.bench.AllFindings();
    // kCount: by its result alone.
    if (mutant.kind == FindingKind::kCount ? wrong : out.bench.Found(mutant.kind)) return;
  }
  FAIL() << "not caught by '"
         << (mutant.kind == FindingKind::kCount ? "the result" : NameOf(mutant.kind))
         << "'; the result is " << (wrong ? "wrong" : "right") << "\n"
         << all;
}

INSTANTIATE_TEST_SUITE_P(
    , HopperGemmMutant,
    testing::Values(
        Mutant{"WrongParity", R"((try_wait\.parity[^;]*, )%r\d+;)", "$011;",
               FindingKind::kDeadlock},
        Mutant{"SmallExpectTx", R"((expect_tx[^;]*, )%r\d+;)", "$0116384;", FindingKind::kInFlight},
        Mutant{"LargeExpectTx", R"((expect_tx[^;]*, )%r\d+;)", "$0132784;", FindingKind::kDeadlock},
        Mutant{"EmptyReleasedEarly", R"(wait_group\.sync\.aligned 1;)",
               "wait_group.sync.aligned 2;", FindingKind::kInFlight},
        Mutant{"MissingWaitGroup", R"(wgmma\.wait_group\.sync\.aligned 0;)", "",
               FindingKind::kInFlight},
        Mutant{"MissingWgmmaFence", R"(wgmma\.fence\.sync\.aligned;)", "",
               FindingKind::kMissingWgmmaFence},
        Mutant{"MissingProxyFence", R"(fence\.proxy\.async\.shared::cta;)", "",
               FindingKind::kMissingProxyFence},
        Mutant{"MissingBarrierInitFence", R"(fence\.mbarrier_init\.release\.cluster;)", "",
               FindingKind::kMissingProxyFence},
        Mutant{"ArrivalCountTooSmall", R"((mbarrier\.init[^;]*), %r\d+;)", "$01, 1;",
               FindingKind::kInFlight},
        Mutant{"ArrivalCountTooLarge", R"((mbarrier\.init[^;]*), %r\d+;)", "$01, 3;",
               FindingKind::kDeadlock},
        // The stride byte offset is 64 chunks: 0x4000004000010000 in the descriptors.
        Mutant{"WrongStrideByteOffset", "4611686293305360384", "4611686155866406912",
               FindingKind::kCount},
        Mutant{"NoSwizzleInTheTensorMap", "HopperGemm", "HopperGemm", FindingKind::kCount,
               kNoSwizzle},
        Mutant{"MissingStoreWait", R"(cp\.async\.bulk\.wait_group\.read 0;)", "",
               FindingKind::kInFlight},
        Mutant{"MissingNamedBarrier", R"(bar\.sync %r\d+, %r\d+;)", "", FindingKind::kRaceShared}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace trireme::gpusim
