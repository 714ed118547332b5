#include "tests/gpusim/kernels/attention_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

namespace {

uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float FromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

template <typename T>
T* Allocate(size_t count, std::vector<void*>* buffers) {
  void* buffer = nullptr;
  EXPECT_EQ(cudaMalloc(&buffer, count * sizeof(T)), cudaSuccess);
  buffers->push_back(buffer);
  return static_cast<T*>(buffer);
}

template <typename T, typename U>
void Upload(const T* to, const U* from, size_t count) {
  static_assert(sizeof(T) == sizeof(U));
  EXPECT_EQ(cudaMemcpy(const_cast<T*>(to), from, count * sizeof(T), cudaMemcpyHostToDevice),
            cudaSuccess);
}

}  // namespace

AttentionCase::AttentionCase(const AttentionShape& shape, uint64_t seed) : shape_(shape) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](size_t count) {
    std::vector<uint16_t> bits(count);
    for (auto& b : bits) b = ToBf16(normal(random));
    return bits;
  };
  const size_t heads = static_cast<size_t>(shape.kv_heads), batch = shape.kv_lens.size();
  const size_t num_q = batch * static_cast<size_t>(shape.q_len * shape.group) * heads * kHeadDim;
  const size_t token = heads * kHeadDim;
  int max_pages = 0, num_pages = 0;
  for (const int len : shape.kv_lens) {
    const int pages = (len + kPageTokens - 1) / kPageTokens;
    max_pages = std::max(max_pages, pages);
    num_pages += pages;
  }
  const auto q = fill(num_q);
  params_.q = Allocate<__nv_bfloat16>(num_q, &buffers_);
  params_.out = Allocate<__nv_bfloat16>(num_q, &buffers_);
  const size_t cache = static_cast<size_t>(num_pages) * kPageTokens * token;
  params_.k_cache = Allocate<__nv_bfloat16>(cache, &buffers_);
  params_.v_cache = Allocate<__nv_bfloat16>(cache, &buffers_);
  Upload(params_.q, q.data(), num_q);
  for (const uint16_t b : q) q_.push_back(FromBf16(b));

  std::vector<int> free_pages(static_cast<size_t>(num_pages));
  std::iota(free_pages.begin(), free_pages.end(), 0);
  std::shuffle(free_pages.begin(), free_pages.end(), random);
  std::vector<int> table(batch * static_cast<size_t>(max_pages), -1);
  for (size_t s = 0; s < batch; ++s) {
    const size_t len = static_cast<size_t>(shape.kv_lens[s]);
    first_key_.push_back(k_.size());
    const auto k = fill(len * token), v = fill(len * token);
    for (const uint16_t b : k) k_.push_back(FromBf16(b));
    for (const uint16_t b : v) v_.push_back(FromBf16(b));
    for (size_t at = 0; at < len; at += kPageTokens) {
      const size_t page = static_cast<size_t>(free_pages.back());
      free_pages.pop_back();
      table[s * static_cast<size_t>(max_pages) + at / kPageTokens] = static_cast<int>(page);
      const size_t tokens = std::min<size_t>(kPageTokens, len - at);
      Upload(params_.k_cache + page * kPageTokens * token, k.data() + at * token, tokens * token);
      Upload(params_.v_cache + page * kPageTokens * token, v.data() + at * token, tokens * token);
    }
  }
  params_.page_table = Allocate<int>(table.size(), &buffers_);
  params_.kv_lens = Allocate<int>(batch, &buffers_);
  Upload(params_.page_table, table.data(), table.size());
  Upload(params_.kv_lens, shape.kv_lens.data(), batch);
  params_.q_len = shape.q_len;
  params_.kv_heads = shape.kv_heads;
  params_.group = shape.group;
  params_.max_pages = max_pages;
  params_.scale_log2 = 1.44269504f / std::sqrt(static_cast<float>(kHeadDim));
  Reference();
}

AttentionCase::~AttentionCase() {
  for (void* buffer : buffers_) cudaFree(buffer);
}

void AttentionCase::Reference() {
  const size_t heads = static_cast<size_t>(shape_.kv_heads);
  const size_t group = static_cast<size_t>(shape_.group), q_len = static_cast<size_t>(shape_.q_len);
  expected_.assign(q_.size(), 0);
  for (size_t row = 0; row < q_.size() / kHeadDim; ++row) {
    const size_t head = row / group % heads, token = row / group / heads;
    const size_t s = token / q_len;
    const size_t keys = static_cast<size_t>(shape_.kv_lens[s]) - q_len + token % q_len + 1;
    const auto at = [&](const std::vector<float>& cache, size_t key) {
      return cache.data() + first_key_[s] + (key * heads + head) * kHeadDim;
    };
    std::vector<double> score(keys);
    for (size_t key = 0; key < keys; ++key) {
      for (size_t d = 0; d < kHeadDim; ++d) {
        score[key] += double{q_[row * kHeadDim + d]} * double{at(k_, key)[d]};
      }
      score[key] *= double{params_.scale_log2};
    }
    const double most = *std::max_element(score.begin(), score.end());
    double sum = 0;
    std::vector<double> out(kHeadDim);
    for (size_t key = 0; key < keys; ++key) {
      const double weight = std::exp2(score[key] - most);
      sum += weight;
      for (size_t d = 0; d < kHeadDim; ++d) out[d] += weight * double{at(v_, key)[d]};
    }
    for (size_t d = 0; d < kHeadDim; ++d) {
      expected_[row * kHeadDim + d] = static_cast<float>(out[d] / sum);
    }
  }
}

double AttentionCase::MaxError() const {
  std::vector<uint16_t> out(expected_.size());
  if (cudaMemcpy(out.data(), params_.out, out.size() * 2, cudaMemcpyDeviceToHost) != cudaSuccess) {
    return std::numeric_limits<double>::infinity();
  }
  double most = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double error = std::fabs(double{FromBf16(out[i])} - double{expected_[i]});
    if (!(error <= most))
      most = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
  }
  return most;
}

// The weights and the output are rounded to bf16 (8 bits): each adds up to 2^-9 of the largest
// value, twice that for the sums.
double AttentionCase::Tolerance() const {
  double largest = 0;
  for (const float v : v_) largest = std::max(largest, std::fabs(double{v}));
  return largest * std::ldexp(1.0, -8);
}

uint64_t AttentionCase::NumMma() const {
  uint64_t tiles = 0;
  const int rows = shape_.q_len * shape_.group;
  for (const int len : shape_.kv_lens) {
    for (int first = 0; first < rows; first += kRowTile) {
      const int last_row = std::min(first + kRowTile, rows) - 1;
      const int last_key = len - shape_.q_len + last_row / shape_.group;
      tiles += static_cast<uint64_t>(last_key / kKeyTile + 1);
    }
  }
  constexpr uint64_t kOfTile = uint64_t{2} * kRowTile * kKeyTile * kHeadDim / (16 * 8 * 16);
  return tiles * static_cast<uint64_t>(shape_.kv_heads) * kOfTile;
}
