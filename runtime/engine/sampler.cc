#include "runtime/engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kBlock = 1024;  // floats summed in float before they go into a double
// KeepHead's bins: exponent and three mantissa bits of keys in [0, 1].
constexpr int kBinShift = 20;
constexpr size_t kNumBins = (std::bit_cast<uint32_t>(1.0f) >> kBinShift) + 1;

// Four lanes in the compilers' vector notation: the order of every sum is fixed by the source, and
// no optimisation level or instruction set changes it.
constexpr size_t kLanes = 4;
constexpr size_t kUnrolled = 4 * kLanes;  // where order does not matter
using Floats = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));

// Copies four lanes, or what `left` elements there are. (One memcpy of variable length would be a
// call.)
inline void CopyLanes(void* to, const void* from, size_t left) {
  if (left >= kLanes) {
    std::memcpy(to, from, sizeof(Floats));
  } else {
    std::memcpy(to, from, left * sizeof(float));
  }
}

inline Floats LoadLanes(const float* x) {
  Floats v;
  std::memcpy(&v, x, sizeof(v));
  return v;
}

// The lanes beyond the end of `x` are `fill`.
inline Floats Load(absl::Span<const float> x, size_t i, float fill) {
  Floats v = {fill, fill, fill, fill};
  CopyLanes(&v, x.data() + i, x.size() - i);
  return v;
}

// e^x for x <= 0 (also -inf), within 2 ulp; exactly 1 at 0, exactly 0 below -87 (e^-87 is close to
// FLT_MIN). Its own, because libm's result depends on the machine's instruction set, and so that it
// is vectorised. Cody-Waite reduction to |r| <= ln(2)/2, then the Taylor polynomial of degree 7.
inline Floats ExpOfNonPositive(Floats x) {
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound =
      0x1.8p23f;  // adding it leaves the nearest integer in the low mantissa bits
  const Floats floor = Floats{} - 87.0f;
  const Floats clamped = x < floor ? floor : x;
  const Floats shifted = clamped * 1.44269504f + kRound;
  const Floats n = shifted - kRound;
  const Floats r = (clamped - n * kLn2High) - n * kLn2Low;
  Floats p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Words power_of_two =
      (std::bit_cast<Words>(shifted) - std::bit_cast<uint32_t>(kRound) + 127u) << 23;
  return x < floor ? Floats{} : p * std::bit_cast<Floats>(power_of_two);
}

// The larger of each lane, or the second one's NaN.
inline Floats Larger(Floats a, Floats b) { return a > b ? a : b; }

// The largest element; NaN when any element is NaN.
float MaxOf(absl::Span<const float> x) {
  Floats max = Floats{} - kInfinity;
  Words ordered = ~Words{};
  size_t i = 0;
  for (; i + kUnrolled <= x.size(); i += kUnrolled) {
    const Floats a = LoadLanes(x.data() + i), b = LoadLanes(x.data() + i + 4),
                 c = LoadLanes(x.data() + i + 8), d = LoadLanes(x.data() + i + 12);
    // NOLINTBEGIN(misc-redundant-expression): NaN is not
    ordered &= std::bit_cast<Words>(a == a) & std::bit_cast<Words>(b == b) &
               std::bit_cast<Words>(c == c) & std::bit_cast<Words>(d == d);
    // NOLINTEND(misc-redundant-expression)
    max = Larger(Larger(Larger(a, b), Larger(c, d)), max);
  }
  for (; i < x.size(); i += kLanes) {
    const Floats v = Load(x, i, -kInfinity);
    max = Larger(v, max);
    ordered &= std::bit_cast<Words>(v == v);  // NOLINT(misc-redundant-expression)
  }
  if ((ordered[0] & ordered[1] & ordered[2] & ordered[3]) == 0) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  return std::max(std::max(max[0], max[1]), std::max(max[2], max[3]));
}

// Of the first element that equals `value`: there is one.
size_t IndexOf(absl::Span<const float> x, float value) {
  size_t i = 0;
  for (; i + kUnrolled <= x.size(); i += kUnrolled) {
    const auto found = std::bit_cast<Words>(LoadLanes(x.data() + i) == value) |
                       std::bit_cast<Words>(LoadLanes(x.data() + i + 4) == value) |
                       std::bit_cast<Words>(LoadLanes(x.data() + i + 8) == value) |
                       std::bit_cast<Words>(LoadLanes(x.data() + i + 12) == value);
    const auto halves = std::bit_cast<std::array<uint64_t, 2>>(found);
    if ((halves[0] | halves[1]) != 0) break;
  }
  return static_cast<size_t>(std::find(x.begin() + static_cast<ptrdiff_t>(i), x.end(), value) -
                             x.begin());
}

// Sum over at most kBlock values.
double SumOfBlock(absl::Span<const float> x) {
  Floats sum = {};
  for (size_t i = 0; i < x.size(); i += kLanes) sum += Load(x, i, 0);
  return (double{sum[0]} + sum[1]) + (double{sum[2]} + sum[3]);
}

double SumOf(absl::Span<const float> x) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); i += kBlock) sum += SumOfBlock(x.subspan(i, kBlock));
  return sum;
}

// out = exp((logits - max) / temperature)
void Weights(absl::Span<const float> logits, float max, float temperature, float* out) {
  for (size_t i = 0; i < logits.size(); i += kLanes) {
    const Floats weights = ExpOfNonPositive((Load(logits, i, -kInfinity) - max) / temperature);
    CopyLanes(out + i, &weights, logits.size() - i);
  }
}

// ln(sum(exp(logits))), for logits with a finite maximum.
double LogSumExp(absl::Span<const float> logits, float max) {
  float weights[kBlock];
  double sum = 0;
  for (size_t i = 0; i < logits.size(); i += kBlock) {
    const auto block = logits.subspan(i, kBlock);
    Weights(block, max, 1.0f, weights);
    sum += SumOfBlock({weights, block.size()});
  }
  return max + std::log(sum);
}

float LogprobOf(float logit, double log_sum_exp) { return static_cast<float>(logit - log_sum_exp); }

// The `n` largest logits, best first, ties by lower id, as logprobs.
void TopLogprobs(absl::Span<const float> logits, double log_sum_exp, size_t n,
                 std::vector<TokenLogprob>* top) {
  top->clear();
  n = std::min(n, logits.size());
  if (n == 0) return;
  constexpr size_t kSkip = 64;  // skipped at once when none of them can enter
  for (size_t i = 0; i < logits.size(); i += kSkip) {
    const auto block = logits.subspan(i, kSkip);
    if (top->size() == n && !(MaxOf(block) > top->back().logprob)) continue;
    for (size_t j = 0; j < block.size(); ++j) {
      if (top->size() == n) {
        if (!(block[j] > top->back().logprob)) continue;
        top->pop_back();
      }
      const auto after = std::upper_bound(
          top->begin(), top->end(), block[j],
          [](float logit, const TokenLogprob& entry) { return logit > entry.logprob; });
      top->insert(after, {static_cast<TokenId>(i + j), block[j]});
    }
  }
  for (TokenLogprob& entry : *top) entry.logprob = LogprobOf(entry.logprob, log_sum_exp);
}

absl::Status NotNumbers() {
  return absl::InternalError("The model produced logits that are not numbers.");
}
absl::Status NothingLeft() {
  return InvalidParam("logit_bias",
                      "logit_bias and min_tokens leave no token that may be generated");
}

absl::Status CheckMax(float max) { return std::isfinite(max) ? absl::OkStatus() : NotNumbers(); }

double UniformAt(uint64_t seed, uint64_t position) {
  const auto words =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = words[0] | static_cast<uint64_t>(words[1]) << 32;
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// The first id whose cumulative weight exceeds u * total; whole blocks are skipped by their sums.
// Where rounding would carry it past the end, it still stops at an id of positive weight.
TokenId InverseCdf(absl::Span<const float> weights, double u) {
  double left = u * SumOf(weights);
  size_t first = 0;  // of the block that holds the id
  for (size_t i = 0; i < weights.size(); i += kBlock) {
    const double sum = SumOfBlock(weights.subspan(i, kBlock));
    if (sum == 0) continue;
    first = i;
    if (left < sum) break;
    left -= sum;
  }
  TokenId id = -1;
  for (size_t i = first; i < std::min(first + kBlock, weights.size()); ++i) {
    if (weights[i] == 0) continue;
    id = static_cast<TokenId>(i);
    if (left < weights[i]) break;
    left -= weights[i];
  }
  return id;
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

SamplerState::SamplerState(const SamplingParams& params, int vocab_size, uint64_t seed)
    : params_(params),
      vocab_size_(vocab_size),
      seed_(seed),
      penalties_(params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
                 params.frequency_penalty != 0.0f) {}

absl::StatusOr<SamplerState> SamplerState::Create(const SamplingParams& params,
                                                  absl::Span<const TokenId> prompt, int vocab_size,
                                                  uint64_t seed) {
  TRIREME_CHECK(vocab_size > 0);
  const auto known = [&](TokenId id) { return id >= 0 && id < vocab_size; };
  for (const auto& [id, bias] : params.logit_bias) {
    if (!known(id)) return InvalidParam("logit_bias", "a token id is outside the vocabulary");
  }
  if (!std::all_of(prompt.begin(), prompt.end(), known)) {
    return InvalidParam("prompt", "a token id is outside the vocabulary");
  }
  SamplerState state(params, vocab_size, seed);
  if (params.repetition_penalty != 1.0f) {
    for (const TokenId id : prompt) state.Count(id);
  }
  return state;
}

SeenToken& SamplerState::Count(TokenId id) {
  const auto [it, inserted] = seen_index_.try_emplace(id, static_cast<int>(seen_.size()));
  if (inserted) seen_.push_back({id, 0});
  return seen_[it->second];
}

absl::Status ToSampledToken(const SampleOutcome& outcome, SampledToken* out) {
  TRIREME_CHECK(outcome.kind != SampleOutcome::Kind::kOnHost);
  if (outcome.kind == SampleOutcome::Kind::kNotNumbers) return NotNumbers();
  if (outcome.kind == SampleOutcome::Kind::kNothingLeft) return NothingLeft();
  out->id = outcome.id;
  out->logprob = outcome.logprob;
  out->top.assign(outcome.top.begin(), outcome.top.end());
  return absl::OkStatus();
}

absl::Status Sampler::Sample(SamplerState& state, absl::Span<float> logits, uint64_t position,
                             absl::Span<const TokenId> banned, SampledToken* out) {
  TRIREME_CHECK(logits.size() == static_cast<size_t>(state.vocab_size_));
  const SamplingParams& params = state.params_;
  float max = MaxOf(logits);
  TRIREME_RETURN_IF_ERROR(CheckMax(max));
  double log_sum_exp = 0;
  out->top.clear();
  if (params.logprobs.has_value()) {
    log_sum_exp = LogSumExp(logits, max);
    TopLogprobs(logits, log_sum_exp, std::max(0, *params.logprobs), &out->top);
  }

  Adjust(state, banned, logits);
  if (!adjusted_.empty()) max = MaxOf(logits);
  if (max == -kInfinity) return NothingLeft();
  TRIREME_RETURN_IF_ERROR(CheckMax(max));
  if (params.temperature == 0.0f) {
    out->id = static_cast<TokenId>(IndexOf(logits, max));
  } else {
    out->id = Draw(params, logits, max, UniformAt(state.seed_, position));
  }
  out->logprob =
      params.logprobs.has_value() ? LogprobOf(RawLogit(logits, out->id), log_sum_exp) : 0;
  state.Accept(out->id);
  return absl::OkStatus();
}

absl::Status Sampler::LogprobsOf(absl::Span<const float> logits, TokenId id, int top_n,
                                 SampledToken* out) {
  TRIREME_CHECK(id >= 0 && static_cast<size_t>(id) < logits.size());
  const float max = MaxOf(logits);
  TRIREME_RETURN_IF_ERROR(CheckMax(max));
  const double log_sum_exp = LogSumExp(logits, max);
  out->id = id;
  out->logprob = LogprobOf(logits[id], log_sum_exp);
  TopLogprobs(logits, log_sum_exp, std::max(0, top_n), &out->top);
  return absl::OkStatus();
}

// Steps 2 and 3.
void Sampler::Adjust(const SamplerState& state, absl::Span<const TokenId> banned,
                     absl::Span<float> logits) {
  adjusted_.clear();
  const SamplingParams& params = state.params_;
  for (const auto& [id, bias] : params.logit_bias) {
    Set(logits, id, bias <= kBanBias ? -kInfinity : logits[id] + bias);
  }
  for (const TokenId id : banned) {
    if (id >= 0 && static_cast<size_t>(id) < logits.size()) Set(logits, id, -kInfinity);
  }
  for (const SeenToken& seen : state.seen_) {
    float logit = logits[seen.id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (seen.output_count > 0) {
      logit -= params.presence_penalty +
               params.frequency_penalty * static_cast<float>(seen.output_count);
    }
    Set(logits, seen.id, logit);
  }
}

void Sampler::Set(absl::Span<float> logits, TokenId id, float value) {
  adjusted_.push_back({id, logits[id]});
  logits[id] = value;
}

float Sampler::RawLogit(absl::Span<const float> logits, TokenId id) const {
  for (const Adjusted& adjusted : adjusted_) {  // the first entry of an id holds its raw value
    if (adjusted.id == id) return adjusted.raw;
  }
  return logits[id];
}

// Steps 4 and 5. Filters put the weight of what they drop to zero, so each sees the distribution
// that the one before left, up to a factor.
TokenId Sampler::Draw(const SamplingParams& params, absl::Span<const float> logits, float max,
                      double u) {
  weights_.resize(logits.size());
  Weights(logits, max, params.temperature, weights_.data());
  if (params.min_p > 0) {  // the largest weight is 1
    for (float& weight : weights_) weight = weight < params.min_p ? 0.0f : weight;
  }
  if (params.top_k > 0) KeepHead(weights_, params.top_k, 1.0);
  if (params.typical_p < 1) KeepTypical(logits, max, params.temperature, params.typical_p);
  if (params.top_p < 1) KeepHead(weights_, std::numeric_limits<int64_t>::max(), params.top_p);
  return InverseCdf(weights_, u);
}

// Orders tokens by how near their surprise, -ln p, is to its expectation, the entropy.
void Sampler::KeepTypical(absl::Span<const float> logits, float max, float temperature,
                          double mass) {
  double total = 0, weighted = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (weights_[i] == 0) continue;
    total += weights_[i];
    weighted += double{weights_[i]} * ((logits[i] - max) / temperature);
  }
  // ln p = x - ln(total), so surprise - entropy = E[x] - x.
  const double mean = weighted / total;
  keys_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double distance = std::abs((logits[i] - max) / temperature - mean);
    keys_[i] = weights_[i] == 0 ? 0.0f : static_cast<float>(1 / (1 + distance));
  }
  KeepHead(keys_, std::numeric_limits<int64_t>::max(), mass);
}

// In the order of keys (in [0, 1]; largest first, ties by lower id) keeps the shortest run of
// tokens that has `max_count` tokens or `mass_fraction` of the weight, and at least one. Keys are
// binned by their leading bits, whose order is that of the numbers; only the bin in which the run
// ends has to be sorted.
void Sampler::KeepHead(absl::Span<const float> keys, int64_t max_count, double mass_fraction) {
  const auto bin_of = [](float key) { return std::bit_cast<uint32_t>(key) >> kBinShift; };
  bins_.assign(kNumBins, Bin{0, 0});
  double total = 0;
  int64_t num_tokens = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    Bin& bin = bins_[bin_of(keys[i])];
    ++bin.count;
    bin.mass += weights_[i];
  }
  for (const Bin& bin : bins_) {
    total += bin.mass;
    num_tokens += bin.count;
  }
  const double enough = mass_fraction < 1 ? mass_fraction * total : kInfinity;
  if (num_tokens <= max_count && enough > total) return;

  size_t last_bin = kNumBins;  // the one in which the run ends
  int64_t count = 0;
  double mass = 0;
  while (last_bin-- > 0) {
    const Bin& bin = bins_[last_bin];
    const bool ends = count + bin.count >= max_count || mass + bin.mass >= enough;
    if ((ends && bin.count > 0) || last_bin == 0) break;
    count += bin.count;
    mass += bin.mass;
  }

  candidates_.clear();
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    const size_t bin = bin_of(keys[i]);
    if (bin == last_bin) candidates_.push_back({keys[i], static_cast<TokenId>(i)});
    if (bin < last_bin) weights_[i] = 0;
  }
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.key != b.key ? a.key > b.key : a.id < b.id;
  });
  for (const Candidate& candidate : candidates_) {
    if (count > 0 && (count >= max_count || mass >= enough)) {
      weights_[candidate.id] = 0;
    } else {
      ++count;
      mass += weights_[candidate.id];
    }
  }
}

}  // namespace trireme
