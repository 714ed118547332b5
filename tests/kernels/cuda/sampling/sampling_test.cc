#include <cmath>
#include <cstring>

#include "tests/kernels/cuda/sampling/sampling_case.h"

namespace trireme::cuda {
namespace {

class SamplingTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICE(); }
};

std::vector<Request> Draws(const SamplingParams& params, int n) {
  std::vector<Request> requests;
  for (int i = 0; i < n; ++i) {
    requests.push_back({params, static_cast<uint64_t>(1000 + i / 4), static_cast<uint64_t>(i)});
  }
  return requests;
}

TEST_F(SamplingTest, GreedyAndLogprobsAreTheHostsForEveryVocabulary) {
  for (const int vocab_size : {1, 8, 9, 127, 1000, 4096, 4099, 32003, 151936}) {
    std::vector<Request> requests;
    for (const int num_top : {0, 1, 5, 20}) {
      requests.push_back({{.temperature = 0, .logprobs = num_top}});
    }
    requests.push_back({{.temperature = 0}});
    ExpectSameAsHost(requests, NormalLogits(vocab_size, 1));
  }
}

TEST_F(SamplingTest, TiesGoToTheLowestId) {
  std::vector<float> logits(9000, -3.0f);
  for (const size_t id : {4, 77, 4097, 8999}) logits[id] = 2.5f;
  logits[12] = -0.0f;
  logits[11] = 0.0f;
  ExpectSameAsHost({{{.temperature = 0, .logprobs = 20}}, {{.temperature = 1, .logprobs = 20}}},
                   logits);
  EXPECT_EQ(SampleOnDevice({{{.temperature = 0}}}, {logits}).rows[0].token, 4);
}

TEST_F(SamplingTest, DrawsTheHostsTokens) {
  for (const int vocab_size : {8, 1001, 20000}) {
    for (const float temperature : {0.3f, 1.0f, 2.0f}) {
      ExpectSameAsHost(Draws({.temperature = temperature, .logprobs = 3}, 12),
                       NormalLogits(vocab_size, 2, 2.0f));
    }
  }
}

TEST_F(SamplingTest, FiltersKeepWhatTheHostKeeps) {
  const std::vector<SamplingParams> filters = {
      {.top_p = 0.9f},
      {.top_p = 0.05f},
      {.top_p = 0.999f},
      {.top_k = 1},
      {.top_k = 7},
      {.top_k = 50},
      {.top_k = 100000},
      {.min_p = 0.01f},
      {.min_p = 1.0f},
      {.typical_p = 0.7f},
      {.typical_p = 0.05f},
      {.top_k = 50, .typical_p = 0.9f},
      {.temperature = 2, .min_p = 0.05f, .typical_p = 0.3f},
      {.top_p = 0.6f, .top_k = 60, .typical_p = 0.8f},
      {.top_p = 0.8f, .top_k = 20},
      {.top_p = 0.7f, .top_k = 40, .min_p = 0.02f},
      {.temperature = 0.01f, .top_k = 5},
      {.temperature = 1e-30f, .top_p = 0.5f}};
  for (const int vocab_size : {8, 1000, 20001}) {
    const auto logits = NormalLogits(vocab_size, 3, 3.0f);
    for (const SamplingParams& params : filters) {
      SCOPED_TRACE(testing::Message()
                   << vocab_size << " top_p " << params.top_p << " top_k " << params.top_k
                   << " min_p " << params.min_p << " typical_p " << params.typical_p);
      ExpectSameAsHost(Draws(params, 4), logits);
    }
  }
}

// All draws from few tokens, so that a kept set that is wrong by one token shows.
TEST_F(SamplingTest, TiesAtTheEdgeAreKeptByLowerIds) {
  std::vector<float> logits(64);
  for (size_t id = 0; id < logits.size(); ++id) logits[id] = static_cast<float>(id * 7 % 4);
  for (const SamplingParams& params : std::vector<SamplingParams>{{.top_k = 3},
                                                                  {.top_k = 18},
                                                                  {.top_p = 0.2f},
                                                                  {.top_p = 0.7f},
                                                                  {.top_p = 0.5f, .top_k = 33},
                                                                  {.typical_p = 0.2f},
                                                                  {.typical_p = 0.8f}}) {
    ExpectSameAsHost(Draws(params, 30), logits);
  }
}

// More tokens in the running than fit into shared memory.
TEST_F(SamplingTest, FlatRowsAreFilteredToo) {
  const auto flat = NormalLogits(12000, 4, 0.5f);
  for (const SamplingParams& params :
       std::vector<SamplingParams>{{.top_p = 0.9f},
                                   {.top_k = 6000},
                                   {.min_p = 0.05f},
                                   {.top_p = 0.9f, .top_k = 6000},
                                   {.typical_p = 0.5f},
                                   {.top_p = 0.9f, .typical_p = 0.5f}}) {
    ExpectSameAsHost(Draws(params, 4), flat);
  }
  const std::vector<float> equal(9001, 1.5f);
  for (const SamplingParams& params :
       std::vector<SamplingParams>{{.logprobs = 20}, {.top_k = 5}, {.top_p = 0.5f}}) {
    ExpectSameAsHost(Draws(params, 4), equal);
  }
}

TEST_F(SamplingTest, TheOnlyTokenLeftIsDrawn) {
  for (const int vocab_size : {8, 5001}) {
    std::vector<float> logits(static_cast<size_t>(vocab_size), -kInfinity);
    logits[static_cast<size_t>(vocab_size) - 2] = -500.0f;
    ExpectSameAsHost({{{.temperature = 0, .logprobs = 5}},
                      {{.temperature = 1, .logprobs = 2}},
                      {{.top_p = 0.5f, .top_k = 3, .min_p = 0.1f}}},
                     logits);
  }
}

TEST_F(SamplingTest, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {0, 1, -1, 2, 0.5f, -2, 1.5f, -0.5f};
  constexpr int kDraws = 300;
  const SamplingParams params{.temperature = 1.3f, .top_k = 6};
  const Sampled sampled =
      SampleOnDevice(Draws(params, kDraws), std::vector<std::vector<float>>(kDraws, logits));
  std::vector<double> weights, counts(logits.size());
  double total = 0, chi_square = 0;
  for (const float logit : logits) {
    weights.push_back(logit < -0.6f ? 0 : std::exp(logit / 1.3));
    total += weights.back();
  }
  for (const SampledRow& row : sampled.rows) ++counts[static_cast<size_t>(row.token)];
  for (size_t id = 0; id < logits.size(); ++id) {
    const double expected = kDraws * weights[id] / total;
    if (expected == 0) {
      EXPECT_EQ(counts[id], 0);
    } else {
      chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
    }
  }
  EXPECT_LT(chi_square, 5 + 5 * std::sqrt(2.0 * 5));
}

TEST_F(SamplingTest, BiasesAndBansComeBeforeTheDraw) {
  const auto logits = NormalLogits(500, 5);
  const auto best =
      static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<Request> requests = Draws({.logprobs = 5}, 6);
  for (Request& request : requests) {
    request.params.logit_bias = {{best, -100.0f}, {3, 6.5f}, {499, 5.0f}};
    request.banned = {0, 8};
  }
  requests[0].params.temperature = 0;
  requests[1].params.logit_bias = {{7, 100.0f}};
  ExpectSameAsHost(requests, logits);
}

TEST_F(SamplingTest, OnlyAllowedTokensAreDrawn) {
  for (const int vocab_size : {40, 6001}) {
    const auto logits = NormalLogits(vocab_size, 6);
    std::vector<uint32_t> allowed(static_cast<size_t>(vocab_size + 31) / 32, 0x80000011u);
    allowed.back() |= 1u;
    auto requests = Draws({.logprobs = 4}, 6);
    requests[0].params.temperature = 0;
    requests[1].params.top_p = 0.5f;
    requests[2].params.top_k = 4;
    for (Request& request : requests) request.allowed = allowed;
    ExpectSameAsHost(requests, logits);
  }
}

TEST_F(SamplingTest, PenaltiesCountWhatIsGenerated) {
  SamplingParams params{.temperature = 0.7f,
                        .top_p = 0.95f,
                        .repetition_penalty = 1.3f,
                        .presence_penalty = 0.5f,
                        .frequency_penalty = 0.25f,
                        .logit_bias = {{2, 1.0f}, {9, 2.0f}},
                        .logprobs = 2};
  const std::vector<TokenId> prompt = {1, 2, 3, 2, 1, 40};
  const auto logits = NormalLogits(50, 7, 1.0f);
  auto state = SamplerState::Create(params, prompt, 50, /*seed=*/5);
  Request request{params, 5};
  for (const TokenId id : {1, 2, 3, 40}) request.seen.push_back({id, 0, 0});
  Sampler sampler;
  for (uint64_t position = 0; position < 30; ++position) {
    SampledToken token;
    auto copy = logits;
    ASSERT_TRUE(sampler.Sample(*state, absl::MakeSpan(copy), position, {}, &token).ok());
    request.position = position;
    const Sampled sampled = SampleOnDevice({request}, {logits});
    ExpectSame(sampled.rows[0], token, true);
    request.seen = sampled.seen[0];
  }
  int generated = 0;
  for (const SeenToken& seen : request.seen) generated += seen.output_count;
  EXPECT_EQ(generated, 30);
}

TEST_F(SamplingTest, LogprobsOfAGivenToken) {
  const auto logits = NormalLogits(3000, 8);
  Request request{{.temperature = 0, .logprobs = 3}};
  request.given = 1234;
  const Sampled sampled = SampleOnDevice({request}, {logits});
  SampledToken token;
  ASSERT_TRUE(Sampler().LogprobsOf(logits, 1234, 3, &token).ok());
  ExpectSame(sampled.rows[0], token, true);
}

TEST_F(SamplingTest, BadRowsFailAlone) {
  const auto good = NormalLogits(5000, 9);
  auto nan = good, negative_nan = good, infinite = good;
  nan[4999] = kNan;
  negative_nan[0] = -kNan;
  infinite[17] = kInfinity;
  const std::vector<float> nothing(5000, -kInfinity);
  Request banned_all{{.temperature = 0}};
  banned_all.allowed.assign(157, 0);
  Request overflow{{.logit_bias = {{17, 100.0f}}}};
  const Request plain{{.temperature = 0.8f, .top_p = 0.9f}};
  auto huge = good;
  huge[17] = 3.4e38f;
  overflow.params.repetition_penalty = 0.01f;
  overflow.seen = {{17, 1, 0}};
  const Sampled sampled =
      SampleOnDevice({plain, plain, plain, plain, plain, banned_all, overflow, plain},
                     {good, nan, negative_nan, infinite, nothing, good, huge, good});
  const std::vector<SampleStatus> expected = {SampleStatus::kOk,         SampleStatus::kNotNumbers,
                                              SampleStatus::kNotNumbers, SampleStatus::kNotNumbers,
                                              SampleStatus::kNotNumbers, SampleStatus::kNothingLeft,
                                              SampleStatus::kNotNumbers, SampleStatus::kOk};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(sampled.rows[i].status, expected[i]) << i;
    if (expected[i] != SampleStatus::kOk) {
      EXPECT_EQ(sampled.tokens[i], 0);
    }
  }
  EXPECT_EQ(sampled.tokens[0], sampled.tokens[7]);
  EXPECT_EQ(sampled.seen[6][0].output_count, 1);
}

TEST_F(SamplingTest, ARowHasTheSameBitsAloneAndAmongOthers) {
  std::vector<Request> requests;
  std::vector<std::vector<float>> logits;
  for (int i = 0; i < 9; ++i) {
    requests.push_back({{.temperature = i % 3 == 0 ? 0.0f : 0.9f,
                         .top_p = i % 2 == 0 ? 0.9f : 1.0f,
                         .top_k = i % 4 == 1 ? 10 : 0,
                         .logprobs = i % 3},
                        static_cast<uint64_t>(i)});
    logits.push_back(NormalLogits(6000, static_cast<uint64_t>(20 + i)));
  }
  const Sampled all = SampleOnDevice(requests, logits);
  for (size_t i = 0; i < requests.size(); ++i) {
    const SampledRow alone = SampleOnDevice({requests[i]}, {logits[i]}).rows[0];
    const SampledRow& among = all.rows[i];
    EXPECT_EQ(alone.token, among.token);
    EXPECT_EQ(std::memcmp(&alone.logprob, &among.logprob, sizeof(float)), 0);
    EXPECT_EQ(
        std::memcmp(alone.top, among.top, static_cast<size_t>(among.num_top) * sizeof(TopLogprob)),
        0);
  }
}

TEST_F(SamplingTest, PaddingIsLeftAlone) {
  const DeviceArray<SampleRow> rows(std::vector<SampleRow>(3));  // inactive
  const DeviceArray<float> logits(3 * 8);                        // undefined
  const DeviceArray<int32_t> tokens(std::vector<int32_t>{7, 8, 9});
  const DeviceArray<SampledRow> out(3);
  Check(Sample(logits.get(), 8, 8, rows.get(), 3, out.get(), tokens.get(), nullptr));
  EXPECT_THAT(tokens.Read(), testing::ElementsAre(7, 8, 9));
}

#if TRIREME_GPUSIM
TEST_F(SamplingTest, AGreedyRowIsReadOnce) {
  SampleOnDevice({{{.temperature = 0}}}, {NormalLogits(151936, 10)});
  const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
  EXPECT_LE(counters.global_sectors, counters.global_sectors_min * 105 / 100);
  EXPECT_LE(counters.global_sectors, 151936 / 8 * 105 / 100);
}

// PTX instructions of a lane for each logit, of which ptxas saves a part.
TEST_F(SamplingTest, ALogitCostsFewInstructions) {
  const auto logits = NormalLogits(151936, 11);
  const auto instructions_of = [&](const SamplingParams& params) {
    SampleOnDevice({{params}}, {logits});
    return 32 * static_cast<double>(gpusim::CountersOfLastLaunch().total()) / 151936;
  };
  EXPECT_LE(instructions_of({.temperature = 0}), 24);
  EXPECT_LE(instructions_of({.temperature = 0, .logprobs = 5}), 127);
  EXPECT_LE(instructions_of({}), 80);
  EXPECT_LE(instructions_of({.top_k = 50}), 174);
  EXPECT_LE(instructions_of({.top_p = 0.9f, .min_p = 0.01f}), 180);
  EXPECT_LE(instructions_of({.top_k = 50, .typical_p = 0.9f}), 255);
  EXPECT_LE(instructions_of({.typical_p = 0.9f}), 2100);
}
#endif

}  // namespace
}  // namespace trireme::cuda
