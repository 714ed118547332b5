#include "tests/kernels/cpu_rows/paged_sequence.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "kernels/reference/reference.h"

namespace trireme::cpu {

PagedSequence::PagedSequence(const Kernels& kernels, const AttentionCase& shape, uint64_t content,
                             uint64_t placement)
    : kernels_(kernels), shape_(shape) {
  const int64_t used = (shape.context + shape.block_size - 1) / shape.block_size;
  const int64_t num_blocks = used * 2 + 3;
  std::vector<BlockId> ids(num_blocks);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(placement));
  blocks_.assign(ids.begin(), ids.begin() + used);  // exactly as many as needed

  const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
  const int64_t block_stride = (shape.block_size + 1) * kv_row;  // a gap, as of other layers
  k_storage_.assign(num_blocks * block_stride * BlockBytes(shape.dtype), 0xff);  // NaN
  v_storage_ = k_storage_;
  kv_ = {k_storage_.data(), v_storage_.data(), shape.dtype, shape.num_kv_heads,
         shape.block_size,  shape.head_dim,    block_stride};
  for (int64_t p = 0; p < shape.context; ++p) {
    Store(p, Normal(kv_row, content * 100000 + 2 * p),
          Normal(kv_row, content * 100000 + 2 * p + 1));
  }
  q_ = Normal(shape.context * shape.row(), content + 7, 2.0f);
  sinks_ = Normal(shape.num_heads(), content + 8, 2.0f);
  params_ = {shape.num_heads(), 1.0f / std::sqrt(static_cast<float>(shape.head_dim)), shape.window,
             shape.soft_cap, shape.sinks ? sinks_.data() : nullptr};
}

void PagedSequence::Store(int64_t position, const std::vector<float>& k,
                          const std::vector<float>& v) {
  kernels_.store_kv(kv_, blocks_[position / shape_.block_size],
                    static_cast<int>(position % shape_.block_size), k.data(), v.data());
}

std::vector<float> PagedSequence::Attend(int64_t first, int64_t count, int head_begin,
                                         int head_end) const {
  const int64_t bytes = (kernels_.attention_scratch_bytes(params_, kv_) + 63) / 64 * 64;
  const std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, bytes),
                                                            &std::free);
  std::vector<float> out(count * shape_.row());
  kernels_.attention(params_, kv_, blocks_, first, count, head_begin, head_end,
                     q_.data() + first * shape_.row(), shape_.row(), out.data(), shape_.row(),
                     scratch.get());
  return out;
}

std::vector<double> PagedSequence::Reference(int64_t first, int64_t count) const {
  std::vector<double> out(count * shape_.row());
  reference::Attention(params_, kv_, blocks_, first, count, q_.data() + first * shape_.row(),
                       shape_.row(), out.data());
  return out;
}

// A score is off by at most (head_dim + 2) u |q| |k| scale, plus 8 u of the cap; its weight by
// that, relatively, plus the rounding of score - max and of the exponential. Numerator and
// denominator each add a sum of `context` terms. Doubled for the portable table, whose
// multiply-adds round twice.
double PagedSequence::Tolerance() const {
  constexpr double kUnit = 0x1p-24;
  double max_q = 0, max_k = 0, max_v = 0;
  for (size_t row = 0; row < q_.size(); row += shape_.head_dim) {
    double square = 0;
    for (int d = 0; d < shape_.head_dim; ++d)
      square += static_cast<double>(q_[row + d]) * q_[row + d];
    max_q = std::max(max_q, std::sqrt(square));
  }
  for (int64_t p = 0; p < shape_.context; ++p) {
    for (int h = 0; h < shape_.num_kv_heads; ++h) {
      double square = 0;
      for (int d = 0; d < shape_.head_dim; ++d) {
        const BlockId block = blocks_[p / shape_.block_size];
        const int slot = static_cast<int>(p % shape_.block_size);
        const double k = reference::KeyAt(kv_, block, slot, h, d);
        square += k * k;
        max_v = std::max(max_v, std::abs(reference::ValueAt(kv_, block, slot, h, d)));
      }
      max_k = std::max(max_k, std::sqrt(square));
    }
  }
  const double max_score = max_q * max_k * params_.scale;
  const double score = (shape_.head_dim + 2) * max_score + 8 * shape_.soft_cap;
  const double weight = score + 2 * max_score + 4;
  return 2 * 2 * kUnit * (weight + static_cast<double>(shape_.context) + 4) * max_v;
}

}  // namespace trireme::cpu
