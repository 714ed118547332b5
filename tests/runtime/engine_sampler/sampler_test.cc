#include "runtime/engine/sampler.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "runtime/base/status.h"
#include "tests/runtime/engine_sampler/naive_sampler.h"

namespace trireme {

extern std::atomic<int64_t> num_allocations;  // counting_allocator.cc

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

SamplerState StateOf(const SamplingParams& params, int vocab_size,
                     const std::vector<TokenId>& prompt = {}, uint64_t seed = 1) {
  return SamplerState::Create(params, prompt, vocab_size, seed).value();
}

// Samples from a copy of the logits.
absl::StatusOr<SampledToken> SampleFrom(SamplerState& state, std::vector<float> logits,
                                        uint64_t position = 0,
                                        const std::vector<TokenId>& banned = {}) {
  static Sampler sampler;  // scratch from earlier tests must not matter
  SampledToken token;
  const absl::Status status =
      sampler.Sample(state, absl::MakeSpan(logits), position, banned, &token);
  if (!status.ok()) return status;
  return token;
}

std::vector<float> RandomLogits(std::mt19937* random, int vocab_size, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab_size);
  for (float& logit : logits) logit = normal(*random);
  return logits;
}

double UniformOf(uint64_t seed, uint64_t position) {
  const auto w =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32)},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return std::ldexp(static_cast<double>((uint64_t{w[1]} << 32 | w[0]) >> 11), -53);
}

TEST(Philox, MatchesThePublishedVectors) {  // Random123's known answers for philox4x32-10
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Random parameters of every kind, several tokens each, against the naive distribution and the same
// uniform numbers.
TEST(Sampler, DrawsWhatTheNaiveSamplerDraws) {
  std::mt19937 random(5);
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  const auto unit = [&] { return static_cast<float>(random() % 10001) / 10000; };
  int compared = 0, ambiguous = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    SCOPED_TRACE(trial);
    const int vocab = 1 + below(trial % 10 == 0 ? 5000 : 60);
    SamplingParams params;
    params.temperature = below(4) == 0 ? 0.0f : 0.05f + 1.95f * unit();
    if (below(3) == 0) params.top_p = std::max(0.001f, unit());
    if (below(3) == 0) params.top_k = 1 + below(2 * vocab);
    if (below(3) == 0) params.min_p = unit();
    if (below(4) == 0) params.typical_p = std::max(0.001f, unit());
    if (below(3) == 0) params.repetition_penalty = 0.5f + unit();
    if (below(3) == 0) params.presence_penalty = 4 * unit() - 2;
    if (below(3) == 0) params.frequency_penalty = 4 * unit() - 2;
    std::vector<TokenId> prompt, output, banned;
    for (int i = 0; i < 5; ++i) prompt.push_back(below(vocab));
    if (vocab > 4) {
      params.logit_bias = {{0, 10 * unit()}, {1, -10 * unit()}, {2, below(2) ? -100.0f : 3.0f}};
      if (below(2) == 0) banned = {3};
    }
    const uint64_t seed = uint64_t{random()} << 32 | random();
    SamplerState state = StateOf(params, vocab, prompt, seed);
    for (uint64_t position = 0; position < 4; ++position) {
      const std::vector<float> logits = RandomLogits(&random, vocab, 3);
      const auto token = SampleFrom(state, logits, position, banned);
      ASSERT_TRUE(token.ok()) << token.status();
      const auto adjusted = NaiveAdjusted(params, prompt, output, banned, logits);
      if (params.temperature == 0) {
        const auto best = std::max_element(adjusted.begin(), adjusted.end());
        ASSERT_EQ(token->id, best - adjusted.begin());
      } else {
        const auto p = NaiveDistribution(params, adjusted);
        double left = UniformOf(seed, position);
        int expected = 0;
        bool near_border = false;
        for (int id = 0; id < vocab; ++id) {
          near_border |= std::abs(left) < 1e-5;
          if (left >= 0) expected = id;
          left -= p[id];
        }
        near_border ? ++ambiguous : ++compared;
        if (!near_border) {
          ASSERT_EQ(token->id, expected);
        }
        ASSERT_GT(p[token->id], 0);
      }
      output.push_back(token->id);
    }
  }
  EXPECT_GT(compared, 8000);
  EXPECT_LT(ambiguous, 50);
}

// Pearson's test over many positions of one seed. The bound is five standard deviations of
// chi-square.
void ExpectDrawsFollow(const SamplingParams& params, const std::vector<float>& logits) {
  const int kDraws = 40000;
  SamplerState state = StateOf(params, static_cast<int>(logits.size()), {}, 12345);
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) ++counts[SampleFrom(state, logits, i).value().id];
  const auto p = NaiveDistribution(params, {logits.begin(), logits.end()});
  double chi_square = 0;
  int degrees = -1;
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0) {
      EXPECT_EQ(counts[id], 0) << id;
      continue;
    }
    const double expected = p[id] * kDraws;
    chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
    ++degrees;
  }
  ASSERT_GT(degrees, 0);
  EXPECT_LT(chi_square, degrees + 5 * std::sqrt(2.0 * degrees));
}

const std::vector<float> kTenLogits = {1.0f,  0.5f, -0.2f, 1.7f,  0.0f,
                                       -1.0f, 0.9f, 0.3f,  -0.6f, 1.2f};

TEST(SamplerDistribution, OfTemperatures) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    ExpectDrawsFollow(params, kTenLogits);
  }
}
TEST(SamplerDistribution, OfTopK) {
  SamplingParams params;
  params.top_k = 4;
  ExpectDrawsFollow(params, kTenLogits);
}
TEST(SamplerDistribution, OfTopP) {
  SamplingParams params;
  params.top_p = 0.7f;
  ExpectDrawsFollow(params, kTenLogits);
}
TEST(SamplerDistribution, OfMinP) {
  SamplingParams params;
  params.min_p = 0.3f;
  ExpectDrawsFollow(params, kTenLogits);
}
TEST(SamplerDistribution, OfTypicalP) {
  SamplingParams params;
  params.typical_p = 0.6f;
  ExpectDrawsFollow(params, kTenLogits);
}
TEST(SamplerDistribution, OfAllFiltersTogether) {
  SamplingParams params;
  params.temperature = 1.5f;
  params.min_p = 0.15f;
  params.top_k = 7;
  params.typical_p = 0.95f;
  params.top_p = 0.9f;
  ExpectDrawsFollow(params, kTenLogits);
}

TEST(Sampler, DrawsDependOnSeedAndPositionAlone) {
  std::mt19937 random(1);
  const auto logits = RandomLogits(&random, 1000, 1);
  SamplingParams params;
  SamplerState a = StateOf(params, 1000, {}, 77), b = StateOf(params, 1000, {5}, 77);
  SamplerState other = StateOf(params, 1000, {}, 78);
  std::vector<TokenId> forward, backward, another;
  for (int i = 0; i < 20; ++i) forward.push_back(SampleFrom(a, logits, i)->id);
  for (int i = 19; i >= 0; --i) {
    backward.insert(backward.begin(), SampleFrom(b, logits, i)->id);
    another.push_back(SampleFrom(other, logits, i)->id);  // in between: shares the scratch memory
  }
  EXPECT_EQ(forward, backward);
  std::reverse(another.begin(), another.end());
  EXPECT_NE(forward, another);
}

TEST(Sampler, GreedyTakesTheLowestIdOnTies) {
  SamplingParams params;
  params.temperature = 0;
  SamplerState state = StateOf(params, 7);
  EXPECT_EQ(SampleFrom(state, {0, 2, -1, 2, 2, 1, 2})->id, 1);
  EXPECT_EQ(SampleFrom(state, std::vector<float>(7, -5.0f))->id, 0);
}

TEST(Sampler, TopKOfEqualLogitsKeepsTheLowestIds) {
  SamplingParams params;
  params.top_k = 3;
  SamplerState state = StateOf(params, 100);
  std::set<TokenId> drawn;
  for (int i = 0; i < 200; ++i)
    drawn.insert(SampleFrom(state, std::vector<float>(100, 1.0f), i)->id);
  EXPECT_EQ(drawn, (std::set<TokenId>{0, 1, 2}));
}

TEST(Sampler, ExtremeFiltersLeaveExactlyTheBestToken) {
  for (const int which : {0, 1, 2, 3}) {
    SamplingParams params;
    params.temperature = 2;
    if (which == 0) params.top_p = 1e-9f;
    if (which == 1) params.min_p = 1.0f;
    if (which == 2) params.top_k = 1;
    if (which == 3) params.temperature = 1e-30f;  // all the rest underflows
    SamplerState state = StateOf(params, 10);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(SampleFrom(state, kTenLogits, i)->id, 3) << which;
  }
}

TEST(Sampler, FiltersThatAreWiderThanTheVocabularyChangeNothing) {
  SamplingParams wide, plain;
  wide.top_k = 1000;
  SamplerState a = StateOf(wide, 10), b = StateOf(plain, 10);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SampleFrom(a, kTenLogits, i)->id, SampleFrom(b, kTenLogits, i)->id);
  }
}

TEST(Sampler, TokensOfMinusInfinityAreNeverDrawn) {
  std::vector<float> logits(50, -kInf);
  logits[20] = -1e30f;
  logits[41] = -1e30f;
  for (const float typical_p : {1.0f, 0.9f}) {
    SamplingParams params;
    params.typical_p = typical_p;
    SamplerState state = StateOf(params, 50);
    std::set<TokenId> drawn;
    for (int i = 0; i < 100; ++i) drawn.insert(SampleFrom(state, logits, i)->id);
    EXPECT_EQ(drawn, (std::set<TokenId>{20, 41}));
  }
}

TEST(Sampler, AVocabularyOfOneToken) {
  SamplingParams params;
  params.top_p = 0.5f;
  params.logprobs = 5;
  SamplerState state = StateOf(params, 1);
  const auto token = SampleFrom(state, {-3.0f});
  EXPECT_EQ(token->id, 0);
  EXPECT_EQ(token->logprob, 0.0f);
  ASSERT_EQ(token->top.size(), 1u);
}

TEST(Sampler, BannedIdsAreNotDrawnAndTheirLogprobsStay) {
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = 1;
  SamplerState state = StateOf(params, 10);
  const auto token = SampleFrom(state, kTenLogits, 0, {3, 3, -1, 10});
  EXPECT_EQ(token->id, 9);
  EXPECT_EQ(token->top[0].id, 3);
  EXPECT_LT(token->logprob, token->top[0].logprob);
}

TEST(Sampler, ABiasOfMinusHundredBansHoweverLargeTheLogit) {
  SamplingParams params;
  params.temperature = 0;
  params.logit_bias = {{1, -100.0f}, {1, 100.0f}};
  SamplerState state = StateOf(params, 3);
  EXPECT_EQ(SampleFrom(state, {0, 5000, 1})->id, 2);
}

TEST(SamplerError, BansThatLeaveNoTokenAreTheRequestsFault) {
  SamplingParams params;
  for (TokenId id = 0; id < 4; ++id) params.logit_bias.push_back({id, -100.0f});
  SamplerState state = StateOf(params, 4);
  const absl::Status status = SampleFrom(state, {0, 1, 2, 3}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorParam(status), "logit_bias");
  SamplerState plain = StateOf({}, 2);
  EXPECT_EQ(SampleFrom(plain, {0, 1}, 0, {0, 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SamplerError, LogitsThatAreNotNumbersAreTheModelsFault) {
  Sampler sampler;
  for (const int vocab : {1, 3, 16, 1025}) {
    for (const float bad : {kNaN, kInf}) {
      for (const int where : {0, vocab / 2, vocab - 1}) {
        std::vector<float> logits(vocab, 1.0f);
        logits[where] = bad;
        for (const float temperature : {0.0f, 1.0f}) {
          SamplingParams params;
          params.temperature = temperature;
          SamplerState state = StateOf(params, vocab);
          EXPECT_EQ(SampleFrom(state, logits).status().code(), absl::StatusCode::kInternal);
        }
        SampledToken token;
        EXPECT_EQ(sampler.LogprobsOf(logits, 0, 3, &token).code(), absl::StatusCode::kInternal);
      }
    }
    SamplerState state = StateOf({}, vocab);
    EXPECT_EQ(SampleFrom(state, std::vector<float>(vocab, -kInf)).status().code(),
              absl::StatusCode::kInternal);
  }
}

TEST(SamplerError, IdsOutsideTheVocabularyAreRefused) {
  for (const TokenId id : {-1, 10}) {
    SamplingParams params;
    EXPECT_EQ(SamplerState::Create(params, {id}, 10, 0).status().code(),
              absl::StatusCode::kInvalidArgument);
    params.logit_bias = {{id, 1.0f}};
    EXPECT_EQ(ErrorParam(SamplerState::Create(params, {}, 10, 0).status()), "logit_bias");
  }
}

TEST(SamplerLogprobs, AreOfTheRawDistributionWhateverElseIsAsked) {
  std::mt19937 random(3);
  const auto logits = RandomLogits(&random, 3000, 4);
  const auto p = NaiveSoftmax({logits.begin(), logits.end()}, 1.0);
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_k = 5;
  params.repetition_penalty = 1.5f;
  params.presence_penalty = 1;
  params.logit_bias = {{7, 12.0f}};
  params.logprobs = 20;
  SamplerState state = StateOf(params, 3000, {1, 2, 3});
  for (int i = 0; i < 30; ++i) {
    const auto token = SampleFrom(state, logits, i);
    EXPECT_NEAR(token->logprob, std::log(p[token->id]), 2e-6);
    ASSERT_EQ(token->top.size(), 20u);
    for (const TokenLogprob& top : token->top) EXPECT_NEAR(top.logprob, std::log(p[top.id]), 2e-6);
  }
}

TEST(SamplerLogprobs, OfTheChosenTokenEqualItsTopEntryExactly) {
  std::mt19937 random(4);
  SamplingParams params;
  params.logprobs = 20;
  SamplerState state = StateOf(params, 500);
  params.temperature = 0;
  SamplerState greedy = StateOf(params, 500);
  Sampler sampler;
  int found = 0;
  for (int i = 0; i < 100; ++i) {
    const auto logits = RandomLogits(&random, 500, 3);
    const auto best = SampleFrom(greedy, logits, i);
    EXPECT_EQ(best->top[0].id, best->id);
    EXPECT_EQ(best->top[0].logprob, best->logprob);
    const auto token = SampleFrom(state, logits, i);
    for (const TokenLogprob& top : token->top) {
      if (top.id != token->id) continue;
      EXPECT_EQ(top.logprob, token->logprob);
      ++found;
    }
    SampledToken echoed;  // the same numbers as for a prompt token
    ASSERT_TRUE(sampler.LogprobsOf(logits, token->id, 20, &echoed).ok());
    EXPECT_EQ(echoed.logprob, token->logprob);
    EXPECT_EQ(echoed.top[19].logprob, token->top[19].logprob);
  }
  EXPECT_GT(found, 50);
}

TEST(SamplerLogprobs, TopIsBestFirstWithTiesByLowerId) {
  std::mt19937 random(6);
  Sampler sampler;
  for (int trial = 0; trial < 200; ++trial) {
    const int vocab = 1 + static_cast<int>(random() % 300);
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = static_cast<float>(random() % 6);  // many ties
    std::vector<TokenId> order(vocab);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    SampledToken token;
    ASSERT_TRUE(sampler.LogprobsOf(logits, 0, 20, &token).ok());
    ASSERT_EQ(token.top.size(), std::min<size_t>(20, vocab));
    for (size_t i = 0; i < token.top.size(); ++i) EXPECT_EQ(token.top[i].id, order[i]);
  }
}

TEST(SamplerLogprobs, AreAccurateOverTheWholeRangeOfTheExponential) {
  Sampler sampler;
  SampledToken token;
  for (float x = 0; x > -95; x -= 0.0137f) {
    ASSERT_TRUE(sampler.LogprobsOf({x, 0.0f}, 1, 0, &token).ok());
    const double exact = -std::log1p(std::exp(double{x}));
    EXPECT_NEAR(token.logprob, exact, 3e-7 * std::abs(exact) + 2e-16) << x;
  }
}

TEST(SamplerLogprobs, AreAbsentUnlessAskedFor) {
  SamplerState state = StateOf({}, 10);
  const auto token = SampleFrom(state, kTenLogits);
  EXPECT_EQ(token->logprob, 0.0f);
  EXPECT_TRUE(token->top.empty());
}

TEST(Sampler, AllocatesNothingInTheSteadyState) {
  SamplingParams params;
  params.top_p = 0.9f;
  params.top_k = 200;
  params.typical_p = 0.95f;
  params.repetition_penalty = 1.1f;
  params.logit_bias = {{1, 2.0f}};
  params.logprobs = 5;
  SamplerState state = StateOf(params, 2000, {1, 2, 3});
  std::mt19937 random(8);
  const auto raw = RandomLogits(&random, 2000, 1);
  std::vector<float> logits = raw;
  Sampler sampler;
  SampledToken token;
  int64_t before = 0;
  for (int i = 0; i < 400; ++i) {
    if (i == 200) before = num_allocations;
    std::copy(raw.begin(), raw.end(), logits.begin());
    // The same position: the same token, so that the penalty table does not grow.
    ASSERT_TRUE(sampler.Sample(state, absl::MakeSpan(logits), i % 4, {}, &token).ok());
  }
  EXPECT_EQ(num_allocations, before);
}

}  // namespace
}  // namespace trireme
