#include <algorithm>

#include "kernels/cuda/fused/rows.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/rows/rows_case.h"

namespace trireme::cuda {
namespace {

struct Shape {
  int num_heads = 4, num_kv_heads = 2, head_dim = 64, rotary_dim = 64;
  bool interleaved = false, norm = false;
  float magnitude = 1.0f;
};

constexpr int kBlockSize = 16, kNumBlocks = 8;
constexpr uint16_t kUntouched = 0x1234;
constexpr float kEps = 1e-6f;

// With a gap, as of other layers.
int64_t BlockStride(const Shape& shape) {
  return int64_t{shape.num_kv_heads * kBlockSize + 5} * shape.head_dim;
}

// The tokens of a step and what becomes of them.
struct Step {
  std::vector<uint16_t> qkv;         // [num_tokens, all heads, head_dim]
  std::vector<int32_t> positions;    // [num_tokens]
  std::vector<int32_t> sequence_of;  // [num_tokens]
};
struct Stored {
  std::vector<uint16_t> qkv, k, v;
};

class RopeTest : public RowsTest {
 protected:
  // Block tables: every position of sequence s is in block s.
  static constexpr int kTableStride = 1'000'100 / kBlockSize + 1;

  static Step Random(const Shape& shape, const std::vector<int32_t>& positions) {
    const int64_t row = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
    const auto tokens = static_cast<int64_t>(positions.size());
    Step step{Narrow(type(), Normal(tokens * row, 1, 2.0f)), positions, {}};
    for (int64_t i = 0; i < tokens; ++i) step.sequence_of.push_back(static_cast<int32_t>(i));
    return step;
  }
  static std::vector<float> Frequencies(const Shape& shape) {
    std::vector<float> frequencies;
    for (int i = 0; i < shape.rotary_dim / 2; ++i) {
      frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / shape.rotary_dim)));
    }
    return frequencies;
  }
  static std::vector<float> Gain(const Shape& shape, uint64_t seed) {
    return Normal(shape.head_dim, seed);
  }

  static Stored Run(const Shape& shape, const Step& step) {
    std::vector<uint64_t> turns;
    for (const float frequency : Frequencies(shape)) turns.push_back(TurnsOf(frequency));
    const DeviceArray<uint64_t> device_turns(turns);
    const DeviceArray<float> q_gain(Gain(shape, 2)), k_gain(Gain(shape, 3));
    const DeviceArray<uint16_t> qkv(step.qkv);
    const std::vector<uint16_t> cache(static_cast<size_t>(kNumBlocks * BlockStride(shape)),
                                      kUntouched);
    const DeviceArray<uint16_t> k(cache), v(cache);
    std::vector<int32_t> tables(static_cast<size_t>(kNumBlocks * kTableStride));
    for (size_t i = 0; i < tables.size(); ++i) {
      tables[i] = static_cast<int32_t>(i) / kTableStride;
    }
    const DeviceArray<int32_t> positions(step.positions), sequences(step.sequence_of),
        block_tables(tables);
    Batch batch;
    batch.num_tokens = static_cast<int>(step.positions.size());
    batch.positions = positions.get();
    batch.sequence_of = sequences.get();
    batch.block_tables = block_tables.get();
    batch.table_stride = kTableStride;
    const QkNorm norm =
        shape.norm ? QkNorm{q_gain.get(), k_gain.get(), kEps} : QkNorm{nullptr, nullptr, 0};
    Check(RopeAndStoreKv(type(),
                         {shape.rotary_dim, shape.interleaved, device_turns.get(), shape.magnitude},
                         norm, shape.num_heads,
                         {k.get(), v.get(), type(), shape.num_kv_heads, kBlockSize, shape.head_dim,
                          BlockStride(shape)},
                         batch, qkv.get(), nullptr));
    return {qkv.Read(), k.Read(), v.Read()};
  }

  // The head at `x` normalised and rotated, in double.
  static std::vector<double> Exact(const Shape& shape, int64_t position, const float* x,
                                   uint64_t gain_seed) {
    const auto frequencies = Frequencies(shape);
    const RopeTable table{shape.rotary_dim, shape.interleaved, frequencies.data(), shape.magnitude};
    std::vector<double> normal(x, x + shape.head_dim), rotated(normal.size());
    if (shape.norm) {
      const auto gain = Gain(shape, gain_seed);
      reference::RmsNorm(x, gain.data(), kEps, shape.head_dim, normal.data());
    }
    const std::vector<float> narrow(normal.begin(), normal.end());
    reference::Rope(table, position, 1, shape.head_dim, narrow.data(), rotated.data());
    return rotated;
  }

  static void ExpectAgreesWithReference(const Shape& shape, const std::vector<int32_t>& positions) {
    const Step step = Random(shape, positions);
    const Stored stored = Run(shape, step);
    const auto before = Widen(type(), step.qkv), after = Widen(type(), stored.qkv);
    const auto k = Widen(type(), stored.k), v = Widen(type(), stored.v);
    const int all_heads = shape.num_heads + 2 * shape.num_kv_heads;
    for (size_t token = 0; token < positions.size(); ++token) {
      for (int head = 0; head < all_heads; ++head) {
        SCOPED_TRACE(testing::Message() << "token " << token << " head " << head);
        const auto at = (static_cast<int64_t>(token) * all_heads + head) * shape.head_dim;
        const bool is_q = head < shape.num_heads;
        if (positions[token] < 0 || !is_q) {
          ASSERT_TRUE(std::equal(before.begin() + at, before.begin() + at + shape.head_dim,
                                 after.begin() + at));
        }
        if (positions[token] < 0) continue;
        const int kv_head = (head - shape.num_heads) % shape.num_kv_heads;
        const int64_t slot =
            static_cast<int64_t>(token) * BlockStride(shape) +
            (kv_head * kBlockSize + positions[token] % kBlockSize) * int64_t{shape.head_dim};
        if (head >= shape.num_heads + shape.num_kv_heads) {
          ASSERT_TRUE(
              std::equal(v.begin() + slot, v.begin() + slot + shape.head_dim, before.begin() + at));
          continue;
        }
        const float* result = is_q ? after.data() + at : k.data() + slot;
        // Sines and cosines are within 2^-22, of values up to 10 or so times the gain.
        ExpectRounded(type(), {result, result + shape.head_dim},
                      Exact(shape, positions[token], before.data() + at, is_q ? 2 : 3), 1e-5);
      }
    }
    // Nothing but the slots of the tokens was touched.
    const auto live =
        std::count_if(positions.begin(), positions.end(), [](int p) { return p >= 0; });
    for (const auto* cache : {&stored.k, &stored.v}) {
      EXPECT_EQ(std::count(cache->begin(), cache->end(), kUntouched),
                static_cast<int64_t>(cache->size()) - live * shape.num_kv_heads * shape.head_dim);
    }
  }
};

TEST_P(RopeTest, AgreesWithReferenceForEveryHeadDim) {
  for (const int head_dim : {8, 16, 64, 72, 80, 96, 128, 192, 256}) {
    for (const bool interleaved : {false, true}) {
      ExpectAgreesWithReference(
          {.head_dim = head_dim, .rotary_dim = head_dim, .interleaved = interleaved}, {5, 1000});
    }
  }
}

TEST_P(RopeTest, AgreesWithReferenceWherePartOfAHeadIsRotated) {
  for (const int rotary_dim : {0, 2, 16, 20, 24, 32, 78}) {
    for (const bool interleaved : {false, true}) {
      ExpectAgreesWithReference({.head_dim = 80,
                                 .rotary_dim = rotary_dim,
                                 .interleaved = interleaved,
                                 .magnitude = 1.25f},
                                {77});
    }
  }
}

TEST_P(RopeTest, AgreesWithReferenceForEveryNumberOfHeads) {
  for (const auto& [num_heads, num_kv_heads] : {std::pair{1, 1}, {9, 3}, {14, 2}, {64, 8}}) {
    ExpectAgreesWithReference({.num_heads = num_heads, .num_kv_heads = num_kv_heads, .norm = true},
                              {3, 40});
  }
}

TEST_P(RopeTest, HeadsAreNormalizedFirstWhereAskedFor) {
  for (const int head_dim : {8, 72, 128, 256}) {
    ExpectAgreesWithReference({.head_dim = head_dim, .rotary_dim = head_dim, .norm = true},
                              {0, 9, 31});
  }
}

TEST_P(RopeTest, IsAccurateAtAMillion) {
  ExpectAgreesWithReference({.head_dim = 128, .rotary_dim = 128},
                            {999'983, 1'000'000, 524'287, 65'537});
  ExpectAgreesWithReference({.interleaved = true}, {1'000'000});
}

TEST_P(RopeTest, PaddingStoresNothing) { ExpectAgreesWithReference({}, {-1, 4, -1, -1, 17}); }

TEST_P(RopeTest, PositionZeroChangesNothing) {
  const Shape shape;
  const Step step = Random(shape, {0});
  EXPECT_EQ(Run(shape, step).qkv, step.qkv);
}

TEST_P(RopeTest, NanStaysInItsHead) {
  const Shape shape{.norm = true};
  Step step = Random(shape, {3, 4});
  const uint16_t nan = Narrow(type(), {kNan})[0];
  step.qkv[2 * 64 + 7] = nan;  // head 2 of the first token
  const auto after = Widen(type(), Run(shape, step).qkv);
  for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(std::isnan(after[i]), i / 64 == 2) << i;
}

TEST_P(RopeTest, ATokenHasTheSameBitsAloneAndAmongOthers) {
  const Shape shape{.num_heads = 9, .num_kv_heads = 3, .norm = true};
  const Step step = Random(shape, {100, 200, 300, 400, 500, 600, 700});
  const Stored all = Run(shape, step);
  const size_t row = step.qkv.size() / step.positions.size();
  for (const size_t token : {0, 3, 6}) {
    const Step alone{{step.qkv.begin() + token * row, step.qkv.begin() + (token + 1) * row},
                     {step.positions[token]},
                     {step.sequence_of[token]}};
    const Stored stored = Run(shape, alone);
    EXPECT_TRUE(std::equal(stored.qkv.begin(), stored.qkv.end(), all.qkv.begin() + token * row));
    for (size_t i = 0; i < stored.k.size(); ++i) {
      if (stored.k[i] != kUntouched) {
        ASSERT_EQ(stored.k[i], all.k[i]);
      }
    }
  }
}

TEST_P(RopeTest, AnElementCostsFewInstructions) {
  for (const auto& [norm, most] : {std::pair(false, 27.0), {true, 34.5}}) {
    const Shape shape{
        .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .rotary_dim = 128, .norm = norm};
    const Step step = Random(shape, {1, 2, 3});
    Run(shape, step);
    ExpectInstructions(step.qkv.size(), most);
  }
}

TEST_P(RopeTest, EverySectorIsUsed) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const bool norm : {false, true}) {
      const Shape shape{.num_heads = 16,
                        .num_kv_heads = 4,
                        .head_dim = head_dim,
                        .rotary_dim = head_dim,
                        .norm = norm};
      Run(shape, Random(shape, {1, 2, 3}));
      ExpectFewSectors();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RopeTest, testing::Values(DType::kBF16, DType::kF16), TypeName);

// In double precision turns are off by 2^-56 of a revolution; a millionfold is 2^-36.
TEST(TurnsTest, AreTheFractionOfARevolution) {
  EXPECT_EQ(TurnsOf(0.0f), 0u);
  const uint64_t turns = TurnsOf(1.0f);
  for (const uint64_t position : {uint64_t{1}, uint64_t{1000}, uint64_t{1'000'000}}) {
    const double exact = std::remainder(static_cast<double>(position), 2 * M_PI) / (2 * M_PI);
    EXPECT_NEAR(static_cast<double>(static_cast<int64_t>(turns * position)) * 0x1p-64, exact,
                1e-10);
  }
}

}  // namespace
}  // namespace trireme::cuda
