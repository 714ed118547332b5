#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cpu_rows/paged_sequence.h"

namespace trireme::cpu {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class AttentionTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& kernels() const { return *GetParam(); }

  // Whole prompt and last token alone.
  void ExpectAgreesWithReference(const AttentionCase& shape) {
    const PagedSequence sequence(kernels(), shape, /*content=*/shape.head_dim + shape.context);
    const double tolerance = sequence.Tolerance();
    ASSERT_LT(tolerance, 2e-2);  // still tells right from wrong: outputs are of order 0.1 to 1
    const int64_t first = std::max<int64_t>(0, shape.context - 70);
    ExpectNear(sequence.Attend(first, shape.context - first),
               sequence.Reference(first, shape.context - first), tolerance);
    ExpectNear(sequence.Attend(shape.context - 1, 1), sequence.Reference(shape.context - 1, 1),
               tolerance);
  }
  static void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                         double tolerance) {
    ASSERT_EQ(actual.size(), expected.size());
    double worst = 0;
    for (size_t i = 0; i < actual.size(); ++i) {
      const double error = std::abs(actual[i] - expected[i]);
      worst = error <= worst ? worst : error;  // NaN becomes the worst
    }
    EXPECT_LE(worst, tolerance);
  }
};

// Bitwise, NaN included.
bool SameBits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, n * sizeof(float)) == 0;
}

TEST_P(AttentionTest, AgreesWithReferenceForEveryHeadDim) {
  for (int head_dim = 16; head_dim <= 256; head_dim += 8) {
    ExpectAgreesWithReference({.head_dim = head_dim, .num_kv_heads = 1, .context = 90});
  }
  for (int head_dim : {1, 4, 20, 57, 300}) {
    ExpectAgreesWithReference({.head_dim = head_dim, .num_kv_heads = 2, .context = 90});
  }
}

TEST_P(AttentionTest, AgreesWithReferenceForEveryGroupSize) {
  for (int group : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
    ExpectAgreesWithReference({.group = group, .context = 150});
  }
}

TEST_P(AttentionTest, AgreesWithReferenceForEveryBlockSizeAndType) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int block_size : {1, 4, 8, 12, 16, 24, 32, 64, 128}) {
      ExpectAgreesWithReference({.dtype = dtype, .block_size = block_size, .context = 200});
    }
  }
}

TEST_P(AttentionTest, AgreesWithReferenceForEveryContext) {
  for (int64_t context : {1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300, 1100}) {
    ExpectAgreesWithReference({.context = context});
  }
}

TEST_P(AttentionTest, AgreesWithReferenceWithWindows) {
  for (int window : {1, 2, 15, 16, 63, 64, 65, 100, 1000}) {
    for (int64_t context : {1, 64, 65, 333}) {
      ExpectAgreesWithReference({.context = context, .window = window});
    }
  }
}

TEST_P(AttentionTest, AgreesWithReferenceWithSoftCapAndSinks) {
  for (float soft_cap : {0.0f, 2.0f, 50.0f}) {
    for (bool sinks : {false, true}) {
      ExpectAgreesWithReference(
          {.context = 170, .window = 100, .soft_cap = soft_cap, .sinks = sinks});
    }
  }
}

TEST_P(AttentionTest, StoredKvIsRoundedToNearestEven) {
  const std::vector<float> values = {
      0.0f,           -0.0f,          1.0f,      1.0f + 0x1p-11f, 1.0f + 0x3p-11f,
      1.0f + 0x1p-8f, 1.0f + 0x3p-8f, 65504.f,   65519.9f,        65520.0f,
      -1e30f,         0x1p-24f,       0x1p-25f,  0x1.8p-25f,      1e-6f,
      0x1p-14f,       6.1e-5f,        1e-40f,    3.4e38f,         -3.39e38f,
      0.1f,           1.7f,           -123.456f, INFINITY,        -INFINITY};
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    constexpr int kHeadDim = 25, kBlockSize = 8, kKvHeads = 2, kBlocks = 3;
    std::vector<float> k(kKvHeads * kHeadDim), v(k.size());
    for (size_t i = 0; i < k.size(); ++i) {
      k[i] = values[i % values.size()];
      v[i] = values[(i * 7 + 3) % values.size()];
    }
    const size_t bytes = kBlocks * kBlockSize * k.size() * BlockBytes(dtype);
    std::vector<uint8_t> actual_k(bytes, 0x5a), actual_v = actual_k, wanted_k = actual_k,
                                                wanted_v = actual_k;
    kernels().store_kv({actual_k.data(), actual_v.data(), dtype, kKvHeads, kBlockSize, kHeadDim}, 1,
                       5, k.data(), v.data());
    reference::StoreKv({wanted_k.data(), wanted_v.data(), dtype, kKvHeads, kBlockSize, kHeadDim}, 1,
                       5, k.data(), v.data());
    EXPECT_EQ(actual_k, wanted_k) << DTypeName(dtype);
    EXPECT_EQ(actual_v, wanted_v) << DTypeName(dtype);
  }
}

TEST_P(AttentionTest, StoredNanStaysNan) {
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    std::vector<uint16_t> storage(2 * 16);
    const KvLayerView kv{storage.data(), storage.data() + 16, dtype, 1, 1, 16, 16};
    const std::vector<float> nan(
        16, std::bit_cast<float>(0x7f800001u));  // payload only in the low bits
    kernels().store_kv(kv, 0, 0, nan.data(), nan.data());
    for (uint16_t bits : storage) {
      EXPECT_TRUE(std::isnan(dtype == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits)));
    }
  }
}

// ---- Batch invariance: everything below is bitwise.

class BatchInvarianceTest : public AttentionTest {
 protected:
  static std::vector<AttentionCase> Cases() {
    return {{.context = 330},
            {.dtype = DType::kF32, .group = 1, .context = 200},
            {.dtype = DType::kBF16, .group = 8, .context = 200},
            {.head_dim = 128, .num_kv_heads = 1, .group = 4, .block_size = 32, .context = 200},
            {.head_dim = 72, .group = 2, .block_size = 8, .context = 150},
            {.context = 330, .window = 70, .soft_cap = 30.0f, .sinks = true},
            {.num_kv_heads = 1, .context = 1100, .window = 500}};
  }
};

TEST_P(BatchInvarianceTest, DecodingATokenAloneEqualsPrefillingThePrompt) {
  for (const AttentionCase& shape : Cases()) {
    const PagedSequence sequence(kernels(), shape);
    const std::vector<float> prompt = sequence.Attend(0, shape.context);
    for (int64_t p = 0; p < shape.context; ++p) {
      const std::vector<float> alone = sequence.Attend(p, 1);
      ASSERT_TRUE(SameBits(alone.data(), prompt.data() + p * shape.row(), shape.row())) << p;
    }
  }
}

TEST_P(BatchInvarianceTest, ChunkingDoesNotMatter) {
  std::mt19937_64 random(3);
  for (const AttentionCase& shape : Cases()) {
    const PagedSequence sequence(kernels(), shape);
    const std::vector<float> prompt = sequence.Attend(0, shape.context);
    for (int64_t p = 0; p < shape.context;) {
      const int64_t count = std::min<int64_t>(1 + random() % 90, shape.context - p);
      const std::vector<float> chunk = sequence.Attend(p, count);
      ASSERT_TRUE(SameBits(chunk.data(), prompt.data() + p * shape.row(), count * shape.row()))
          << p;
      p += count;
    }
  }
}

TEST_P(BatchInvarianceTest, SplittingHeadsDoesNotMatter) {
  for (const AttentionCase& shape : Cases()) {
    const PagedSequence sequence(kernels(), shape);
    for (int64_t count : {int64_t{1}, shape.context}) {
      const int64_t first = shape.context - count;
      const std::vector<float> all = sequence.Attend(first, count);
      for (int split = 1; split < shape.num_heads(); ++split) {
        const std::vector<float> low = sequence.Attend(first, count, 0, split);
        std::vector<float> high = sequence.Attend(first, count, split, shape.num_heads());
        // Heads not asked for are untouched: zero in either half.
        for (size_t i = 0; i < high.size(); ++i) high[i] += low[i];
        ASSERT_EQ(all, high) << split;
      }
    }
  }
}

TEST_P(BatchInvarianceTest, BlockPlacementDoesNotMatter) {
  for (const AttentionCase& shape : Cases()) {
    const PagedSequence here(kernels(), shape, /*content=*/1, /*placement=*/2);
    const PagedSequence there(kernels(), shape, /*content=*/1, /*placement=*/3);
    EXPECT_EQ(here.Attend(0, shape.context), there.Attend(0, shape.context));
    EXPECT_EQ(here.Attend(shape.context - 1, 1), there.Attend(shape.context - 1, 1));
  }
}

TEST_P(BatchInvarianceTest, BlockSizeDoesNotMatter) {
  for (AttentionCase shape : Cases()) {
    shape.block_size = 16;
    const PagedSequence base(kernels(), shape);
    for (int block_size : {1, 8, 24, 32, 64, 128}) {
      shape.block_size = block_size;
      const PagedSequence other(kernels(), shape);
      EXPECT_EQ(base.Attend(0, shape.context), other.Attend(0, shape.context));
      EXPECT_EQ(base.Attend(shape.context - 1, 1), other.Attend(shape.context - 1, 1));
    }
  }
}

// ---- Bad values

TEST_P(AttentionTest, ANanKeyOrValueReachesOnlyTheQueriesThatSeeIt) {
  constexpr int64_t kBad = 70, kContext = 200;
  for (int window : {0, 50}) {
    for (bool in_key : {true, false}) {
      const AttentionCase shape{.context = kContext, .window = window};
      PagedSequence sequence(kernels(), shape);
      const std::vector<float> clean = sequence.Attend(0, kContext);
      const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
      std::vector<float> good(kv_row, 0.5f), bad(kv_row, kNan);
      sequence.Store(kBad, in_key ? bad : good, in_key ? good : bad);
      const std::vector<float> dirty = sequence.Attend(0, kContext);
      for (int64_t p = 0; p < kContext; ++p) {
        const float* row = dirty.data() + p * shape.row();
        if (p < kBad || (window > 0 && p >= kBad + window)) {
          EXPECT_TRUE(SameBits(row, clean.data() + p * shape.row(), shape.row())) << p;
        } else {
          EXPECT_TRUE(std::all_of(row, row + shape.row(), [](float x) { return std::isnan(x); }))
              << p;
        }
      }
    }
  }
}

TEST_P(AttentionTest, AnInfiniteOrNanQueryReachesOnlyItsOwnHead) {
  const AttentionCase shape{.context = 100};
  for (float bad : {kNan, INFINITY, -INFINITY}) {
    PagedSequence sequence(kernels(), shape);
    const std::vector<float> clean = sequence.Attend(0, shape.context);
    constexpr int64_t kToken = 40, kHead = 4;
    const int64_t head_row = kToken * shape.row() + kHead * shape.head_dim;
    sequence.q()[head_row] = bad;
    const std::vector<float> dirty = sequence.Attend(0, shape.context);
    EXPECT_TRUE(SameBits(dirty.data(), clean.data(), head_row));
    const int64_t next = head_row + shape.head_dim;
    EXPECT_TRUE(SameBits(dirty.data() + next, clean.data() + next, dirty.size() - next));
    if (std::isnan(bad)) {
      EXPECT_TRUE(std::isnan(dirty[head_row]));
    }
  }
}

TEST_P(AttentionTest, HugeScoresDoNotOverflow) {
  const AttentionCase shape{.context = 130};
  PagedSequence sequence(kernels(), shape);
  for (float& q : sequence.q()) q *= 1e4f;  // scores near 1e5: the softmax is one-hot
  const std::vector<float> out = sequence.Attend(0, shape.context);
  for (float x : out) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(AttentionTest, ASinkTakesItsShareOfTheWeight) {
  // One position, score 0, sink 0: half of the weight goes nowhere.
  std::vector<float> k(16, 0.0f), v(16), q(16, 1.0f), out(16);
  for (int i = 0; i < 16; ++i) v[i] = static_cast<float>(i);
  std::vector<float> storage(2 * 16);
  const KvLayerView kv{storage.data(), storage.data() + 16, DType::kF32, 1, 1, 16, 16};
  kernels().store_kv(kv, 0, 0, k.data(), v.data());
  const float sink = 0.0f;
  const AttentionParams params{.num_heads = 1, .sinks = &sink};
  std::vector<float> scratch(kernels().attention_scratch_bytes(params, kv) / sizeof(float));
  const BlockId block = 0;
  kernels().attention(params, kv, {&block, 1}, 0, 1, 0, 1, q.data(), 16, out.data(), 16,
                      scratch.data());
  for (int i = 0; i < 16; ++i) EXPECT_EQ(out[i], v[i] / 2);
}

const auto kTables = testing::ValuesIn(TablesUnderTest());
const auto kName = [](const auto& info) { return TableName(info.param); };
INSTANTIATE_TEST_SUITE_P(Isa, AttentionTest, kTables, kName);
INSTANTIATE_TEST_SUITE_P(Isa, BatchInvarianceTest, kTables, kName);

// FMA rounds twice in the portable table, so only the others agree.
TEST(AttentionAcrossIsasTest, VectorWidthDoesNotChangeABit) {
  const AttentionCase shape{.context = 200, .window = 130, .soft_cap = 20.0f, .sinks = true};
  std::vector<float> first;
  for (const Kernels* kernels : TablesUnderTest()) {
    if (kernels->name == "portable") continue;
    const std::vector<float> out = PagedSequence(*kernels, shape).Attend(0, shape.context);
    if (first.empty()) first = out;
    EXPECT_EQ(out, first) << kernels->name;
  }
}

}  // namespace
}  // namespace trireme::cpu
