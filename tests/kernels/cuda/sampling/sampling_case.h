// Rows of logits, sampled on the device and by runtime/engine's Sampler.
#pragma once

#include <gmock/gmock.h>

#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/sampling/sampling.h"
#include "runtime/engine/sampler.h"
#include "tests/kernels/cuda/device_memory.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Request {
  SamplingParams params;
  uint64_t seed = 1, position = 0;
  std::vector<TokenId> banned;    // none of them in params.logit_bias
  std::vector<uint32_t> allowed;  // empty: all
  std::vector<SeenToken> seen;    // with a penalty
  TokenId given = -1;
};

// What the device made of the rows, and the requests' seen tokens behind it.
struct Sampled {
  std::vector<SampledRow> rows;
  std::vector<int32_t> tokens;
  std::vector<std::vector<SeenToken>> seen;
};

inline std::vector<float> NormalLogits(int vocab_size, uint64_t seed, float spread = 4.0f) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(static_cast<size_t>(vocab_size));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

inline bool HasPenalty(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.presence_penalty != 0 ||
         params.frequency_penalty != 0;
}

// logits: [requests, vocab_size].
inline Sampled SampleOnDevice(const std::vector<Request>& requests,
                              const std::vector<std::vector<float>>& logits) {
  const size_t vocab_size = logits[0].size(), stride = (vocab_size + 7) / 4 * 4;
  std::vector<float> padded(requests.size() * stride, kNan);  // what is between rows is not read
  std::vector<SampleRow> rows(requests.size());
  std::vector<std::unique_ptr<DeviceArray<TokenBias>>> biases;
  std::vector<std::unique_ptr<DeviceArray<SeenToken>>> seen;
  std::vector<std::unique_ptr<DeviceArray<int32_t>>> num_seen;
  std::vector<std::unique_ptr<DeviceArray<uint32_t>>> allowed;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    const SamplingParams& params = request.params;
    std::copy(logits[i].begin(), logits[i].end(),
              padded.begin() + static_cast<int64_t>(i * stride));
    std::vector<TokenBias> bias;
    for (const auto& [id, value] : params.logit_bias) {
      bias.push_back({id, value <= kBanBias ? -kInfinity : value, 0});
    }
    for (const TokenId id : request.banned) bias.push_back({id, -kInfinity, 0});
    std::vector<SeenToken> with_room = request.seen;
    with_room.push_back({-1, 0, 0});
    biases.push_back(std::make_unique<DeviceArray<TokenBias>>(bias));
    seen.push_back(std::make_unique<DeviceArray<SeenToken>>(with_room));
    num_seen.push_back(std::make_unique<DeviceArray<int32_t>>(
        std::vector<int32_t>{static_cast<int32_t>(request.seen.size())}));
    allowed.push_back(std::make_unique<DeviceArray<uint32_t>>(request.allowed));
    SampleRow& row = rows[i];
    row.active = true;
    row.temperature = params.temperature;
    row.top_p = params.top_p;
    row.min_p = params.min_p;
    row.typical_p = params.typical_p;
    row.top_k = params.top_k;
    row.repetition_penalty = params.repetition_penalty;
    row.presence_penalty = params.presence_penalty;
    row.frequency_penalty = params.frequency_penalty;
    row.seed = request.seed;
    row.position = request.position;
    row.num_top = params.logprobs.value_or(-1);
    row.given = request.given;
    row.allowed = request.allowed.empty() ? nullptr : allowed[i]->get();
    row.biases = biases[i]->get();
    row.num_biases = static_cast<int32_t>(bias.size());
    if (HasPenalty(params)) {
      row.seen = seen[i]->get();
      row.num_seen = num_seen[i]->get();
    }
  }
  const DeviceArray<float> device_logits(padded);
  const DeviceArray<SampleRow> device_rows(rows);
  const DeviceArray<SampledRow> out(rows.size());
  const DeviceArray<int32_t> tokens(rows.size());
  Check(Sample(device_logits.get(), static_cast<int64_t>(stride), static_cast<int>(vocab_size),
               device_rows.get(), static_cast<int64_t>(rows.size()), out.get(), tokens.get(),
               nullptr));
  Sampled sampled{out.Read(), tokens.Read(), {}};
  for (size_t i = 0; i < requests.size(); ++i) {
    sampled.seen.push_back(seen[i]->Read());
    sampled.seen.back().resize(static_cast<size_t>(num_seen[i]->Read()[0]));
  }
  return sampled;
}

// By the CPU's sampler; fails the test where it has an error.
inline SampledToken SampleOnHost(const Request& request, std::vector<float> logits) {
  std::vector<TokenId> banned = request.banned;
  for (size_t id = 0; id < logits.size() && !request.allowed.empty(); ++id) {
    if ((request.allowed[id / 32] >> (id % 32) & 1) == 0) banned.push_back(static_cast<int>(id));
  }
  auto state =
      SamplerState::Create(request.params, {}, static_cast<int>(logits.size()), request.seed);
  Sampler sampler;
  SampledToken token;
  const absl::Status status =
      sampler.Sample(*state, absl::MakeSpan(logits), request.position, banned, &token);
  EXPECT_TRUE(status.ok()) << status;
  return token;
}

inline void ExpectSame(const SampledRow& row, const SampledToken& token, bool logprobs) {
  ASSERT_EQ(row.status, SampleStatus::kOk);
  ASSERT_EQ(row.token, token.id);
  if (!logprobs) return;
  // Floats of up to 100 or so, of which the logarithm of the sum is a part.
  constexpr float kTolerance = 1e-5f;
  EXPECT_NEAR(row.logprob, token.logprob, kTolerance);
  ASSERT_EQ(row.num_top, static_cast<int>(token.top.size()));
  for (size_t i = 0; i < token.top.size(); ++i) {
    ASSERT_EQ(row.top[i].id, token.top[i].id) << i;
    if (row.top[i].logprob == token.top[i].logprob) continue;  // -infinity
    EXPECT_NEAR(row.top[i].logprob, token.top[i].logprob, kTolerance) << i;
  }
}

// Every request on the same logits, on both.
inline void ExpectSameAsHost(const std::vector<Request>& requests,
                             const std::vector<float>& logits) {
  const Sampled sampled =
      SampleOnDevice(requests, std::vector<std::vector<float>>(requests.size(), logits));
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "row " << i);
    ExpectSame(sampled.rows[i], SampleOnHost(requests[i], logits),
               requests[i].params.logprobs.has_value());
    EXPECT_EQ(sampled.tokens[i], sampled.rows[i].token);
  }
}

}  // namespace trireme::cuda
