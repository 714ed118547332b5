// kernels/blackwell_gemm.cu as nvcc compiles it, against plain sums, and mutants of its PTX that
// the checkers must catch.
#include <fstream>
#include <functional>
#include <random>
#include <regex>
#include <sstream>

#include "runtime/base/strings.h"
#include "tests/gpusim/blackwell_matrix.h"
#include "tests/gpusim/gates/shared_bytes.h"
#include "tests/gpusim/gemm_error.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

std::string Ptx() {
  std::ifstream file(TRIREME_GEMM_PTX_FOLDER "/blackwell_gemm.ptx");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TensorMap MapOf(const GemmKind& kind, uint64_t address, int rows, int k) {
  return MapOfMatrix(kind.type, address, rows, kind.bits == 4 ? k / 2 : k,
                     static_cast<uint64_t>(k * kind.bits / 8), kind.bits == 16 ? 64 : 128, 128);
}

struct Outcome {
  absl::Status status;
  double worst = 0;  // WorstGemmError()
  Bench bench;
};
struct Case {
  const GemmKind* kind = &kBf16;
  int m = 128, n = 384, k = 0;  // k: 0: five lines
  int ctas = 1;
  uint64_t seed = 1;
  MatrixRounding rounding = MatrixRounding::kFloatOrder;
};

void RunGemm(const std::string& ptx, Case c, Outcome* out) {
  std::mt19937 random(7);
  if (c.k == 0) c.k = 5 * kLine * 8 / c.kind->bits;
  const GemmMatrix a = RandomMatrix(*c.kind, c.m, c.k, &random);
  const GemmMatrix b = RandomMatrix(*c.kind, c.n, c.k, &random);
  const size_t elements = static_cast<size_t>(c.m * c.n);
  const uint64_t result = out->bench.Reserve(elements * 2);
  const int lines = (c.k * c.kind->bits / 8 + kLine - 1) / kLine;
  const int tiles_n = (c.n + 127) / 128, tiles = tiles_n * ((c.m + 127) / 128);
  std::vector<char> params;
  Put(&params, 0, MapOf(*c.kind, out->bench.Upload(a.bytes), c.m, c.k));
  Put(&params, 128, MapOf(*c.kind, out->bench.Upload(b.bytes), c.n, c.k));
  Put(&params, 256, result);
  Put(&params, 264, a.scales.empty() ? uint64_t{0} : out->bench.Upload(a.scales));
  Put(&params, 272, b.scales.empty() ? uint64_t{0} : out->bench.Upload(b.scales));
  const int shape[] = {c.m, c.n, lines, tiles_n, tiles};
  Put(&params, 280, shape);
  LaunchConfig config;
  config.grid = {c.ctas, 1, 1};
  config.block = {192, 1, 1};
  config.dynamic_shared_bytes = GatedSharedBytes("blackwell_gemm.cu");
  config.seed = c.seed;
  config.matrix_rounding = c.rounding;
  out->status = out->bench.Run(ptx, config, params, c.kind->kernel);
  const std::vector<uint16_t> got = out->bench.Download<uint16_t>(result, elements);
  const auto operand = [&c](const GemmMatrix& of) {
    return [&](int i, int p) { return of.values[static_cast<size_t>(i * c.k + p)]; };
  };
  out->worst = WorstGemmError(c.m, c.n, c.k, operand(a), operand(b), [&](int i, int j) {
    return FromBf16(got[static_cast<size_t>(i * c.n + j)]);
  });
}

class BlackwellGemm : public testing::Test {
 protected:
  void SetUp() override {
    if (Ptx().empty()) GTEST_SKIP() << "needs nvcc: build with the gpusim preset";
  }
};

TEST_F(BlackwellGemm, IsRightAndWithoutFindingsUnderManySchedules) {
  const std::string ptx = Ptx();
  for (const GemmKind* kind : {&kBf16, &kE4m3, &kNvf4}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const auto rounding = seed % 2 == 0 ? MatrixRounding::kFloatOrder : MatrixRounding::kTruncate;
      Outcome out;
      RunGemm(ptx, {.kind = kind, .seed = seed, .rounding = rounding}, &out);
      ASSERT_TRUE(out.status.ok()) << kind->kernel << out.status << out.bench.AllFindings();
      EXPECT_TRUE(out.bench.findings.empty()) << kind->kernel << out.bench.AllFindings();
      EXPECT_LE(out.worst, 1) << kind->kernel << " seed " << seed;
    }
  }
}

TEST_F(BlackwellGemm, ClipsWhatLiesOutsideTheTensors) {
  Outcome out;
  RunGemm(Ptx(), {.m = 200, .n = 136, .k = 200, .ctas = 3}, &out);
  EXPECT_TRUE(out.bench.findings.empty()) << out.bench.AllFindings();
  EXPECT_LE(out.worst, 1);
}

TEST_F(BlackwellGemm, CountsItsMultiplications) {
  Outcome out;
  RunGemm(Ptx(), {.m = 128, .n = 256, .k = 128}, &out);
  EXPECT_EQ(out.bench.counters.tcgen05, 2u * 2u * 4u);  // tiles, lines, operations of a line
}

struct Mutant {
  const char* name;
  const char* find;
  const char* replacement;
  FindingKind kind;  // kCount: by its result alone
  const GemmKind* of = &kBf16;
  friend void PrintTo(const Mutant& m, std::ostream* os) { *os << m.name; }
};
class BlackwellGemmMutant : public BlackwellGemm, public testing::WithParamInterface<Mutant> {};

TEST_P(BlackwellGemmMutant, IsCaught) {
  const Mutant& mutant = GetParam();
  const std::string ptx = Ptx();
  const std::regex pattern(mutant.find);
  ASSERT_TRUE(std::regex_search(ptx, pattern)) << "nothing to mutate";
  const std::string mutated = std::regex_replace(ptx, pattern, mutant.replacement);
  bool wrong = false;
  std::string all;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Outcome out;
    RunGemm(mutated, {.kind = mutant.of, .seed = seed}, &out);
    ASSERT_NE(out.status.code(), absl::StatusCode::kUnimplemented) << out.status;
    wrong |= out.worst > 1;
    all += out.bench.AllFindings();
    if (mutant.kind == FindingKind::kCount ? wrong : out.bench.Found(mutant.kind)) return;
  }
  FAIL() << "not caught by '"
         << (mutant.kind == FindingKind::kCount ? "the result" : NameOf(mutant.kind))
         << "'; the result is " << (wrong ? "wrong" : "right") << "\n"
         << all;
}

INSTANTIATE_TEST_SUITE_P(
    , BlackwellGemmMutant,
    testing::Values(Mutant{"MissingFenceAfterSync", R"(tcgen05\.fence::after_thread_sync;)", "",
                           FindingKind::kMissingTensorFence},
                    Mutant{"MissingFenceBeforeSync", R"(tcgen05\.fence::before_thread_sync;)", "",
                           FindingKind::kMissingTensorFence},
                    Mutant{"MissingWaitForLoads", R"(tcgen05\.wait::ld\.sync\.aligned;)", "",
                           FindingKind::kUninitializedRegister},
                    Mutant{"MissingCommit", R"(tcgen05\.commit[^;]*;)", "", FindingKind::kDeadlock},
                    Mutant{"SumsFreeNotWaitedFor", R"((mbarrier\.init[^;]*), %r213;)", "$01, 1;",
                           FindingKind::kCount},
                    Mutant{"NotFreed", R"(tcgen05\.dealloc[^;]*;)", "", FindingKind::kInFlight},
                    Mutant{"TooFewColumns", R"(mov\.b32 \t%r(\d+), 256;)", "mov.b32 \t%r$01, 128;",
                           FindingKind::kOutOfBounds},
                    // 64 chunks of stride become 32: 0x4000404000010000 in the descriptors.
                    Mutant{"WrongStrideByteOffset", "4611756662049538048", "4611756524610584576",
                           FindingKind::kCount},
                    Mutant{"HoppersDescriptor", "4611756662049538048", "4611686293305360384",
                           FindingKind::kBadOperand},
                    Mutant{"SmallExpectTx", R"((expect_tx[^;]*, )%r\d+;)", "$0116384;",
                           FindingKind::kInFlight},
                    Mutant{"MissingBarrierInitFence", R"(fence\.mbarrier_init\.release\.cluster;)",
                           "", FindingKind::kMissingProxyFence},
                    Mutant{"ForgetsWhatIsAccumulated", R"(setp\.ne\.b32 adds, [^,]*, 0;)",
                           "setp.ne.b32 adds, 0, 0;", FindingKind::kCount},
                    Mutant{"AccumulatesOntoNothing", R"(setp\.ne\.b32 adds, [^,]*, 0;)",
                           "setp.ne.b32 adds, 1, 0;", FindingKind::kUninitializedTensor},
                    Mutant{"ScalesNotCopied", R"(tcgen05\.cp[^;]*;)", "",
                           FindingKind::kUninitializedTensor, &kNvf4},
                    Mutant{"ScalesOfBlocksOf32", R"(scale_vec::4X)", "scale_vec::2X",
                           FindingKind::kBadOperand, &kNvf4}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace trireme::gpusim
