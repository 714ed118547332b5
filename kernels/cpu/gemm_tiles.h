// What the instruction sets' matrix products share: from a matrix and its element type to panels,
// from tokens to tiles.
//
// Everything is in an anonymous namespace: each translation unit that includes this compiles its
// own copy with its own instruction set.
#pragma once

#include <utility>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"

#define TRIREME_INLINE [[gnu::always_inline]] static inline
#define TRIREME_INLINE_LAMBDA __attribute__((always_inline))
#define TRIREME_INLINE_MEMBER [[gnu::always_inline]] inline

namespace trireme::cpu {
namespace {

// Where a panel's results go: y[token * stride + column], column < columns (less than kPanelRows in
// the last panel).
struct TileOutput {
  float* y;
  int64_t stride;     // floats
  const float* bias;  // [columns] or null
  int64_t columns;

  TileOutput At(int64_t token) const { return {y + token * stride, stride, bias, columns}; }
};

// A panel of a matrix.
struct Panel {
  const uint8_t* data;
  int64_t bytes;
  int64_t cols;   // K
  bool has_next;  // the panel behind it is computed next
};

constexpr int64_t kPlainStep = 16;  // elements of K

// Weights that will be needed next, on their way to the cache while tiles compute. Few tokens
// stream the panels through one tile: a little ahead in the stream. More tokens pass over a panel
// tile after tile, and the tiles together ask for the next panel; otherwise the first tile of every
// panel would wait for memory.
struct Ahead {
  const uint8_t* next;
  const uint8_t* end;
  int64_t step_bytes;

  // For a panel that `tiles` tiles pass over, each in steps of a block or kPlainStep.
  template <DType kType>
  static Ahead Of(const Panel& panel, int64_t tiles) {
    constexpr int64_t kStreamBytes = 8192, kLine = 64;
    constexpr int64_t kStep = IsQuantized(kType) ? kBlock : kPlainStep;
    const int64_t steps = (panel.cols + kStep - 1) / kStep;
    const uint8_t* const first = panel.data + (tiles <= 1 ? kStreamBytes : panel.bytes);
    const bool wanted = tiles <= 1 || panel.has_next;
    // Where there are so many tiles that a step's share is less than a line, the first ask for all.
    const int64_t share = panel.bytes / (steps * (tiles <= 1 ? 1 : tiles));
    return {first, wanted ? first + panel.bytes : first, share < kLine ? kLine : share};
  }
  // Inlined by force: GCC 12 takes a function that only prefetches for one without effect.
  TRIREME_INLINE_MEMBER void Step() {
    if (next >= end) return;
    for (int64_t i = 0; i < step_bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += step_bytes;
  }
};

// Writes a tile: sums [num_tokens][kColumns], of the columns from `first` on. Out of line, for the
// tiles' loops to be unrolled around their registers and not around this.
template <int kColumns>
[[gnu::noinline]] void StoreTile(const TileOutput& out, int num_tokens, int first,
                                 const float* sums) {
  const int64_t left = out.columns - first;
  const int count = static_cast<int>(left < kColumns ? left : kColumns);
  for (int m = 0; m < num_tokens; ++m, sums += kColumns) {
    float* y = out.y + m * out.stride + first;
    if (out.bias != nullptr) {
      for (int j = 0; j < count; ++j) y[j] = sums[j] + out.bias[first + j];
    } else {
      __builtin_memcpy(y, sums, count * sizeof(float));
    }
  }
}

// Calls f.operator()<M>(first_token) for tiles of at most kMax tokens, as equal as possible: a
// tile's cost has a part that does not depend on M, so 4 + 4 is better than 6 + 2.
template <int kMax, typename F>
inline void ForEachTile(int64_t num_tokens, F f) {
  const int64_t tiles = (num_tokens + kMax - 1) / kMax;
  int64_t first = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t m = (num_tokens - first + tiles - t - 1) / (tiles - t);
    const auto call = [&]<int... I>(std::integer_sequence<int, I...>) {
      (void)((m == I + 1 && (f.template operator()<I + 1>(first), true)) || ...);
    };
    call(std::make_integer_sequence<int, kMax>());
    first += m;
  }
}

// Isa::Multiply<kType>(panel, activations, stride, num_tokens, out) computes one panel for all
// tokens.
template <typename Isa, DType kType>
void MatMulOf(const PackedMatrix& m, const void* activations, int64_t activation_stride,
              int64_t num_tokens, const float* bias, int64_t panel_begin, int64_t panel_end,
              float* y, int64_t y_stride) {
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const int64_t first = p * kPanelRows;
    const int64_t left = m.rows - first;
    const TileOutput out = {y + first, y_stride, bias != nullptr ? bias + first : nullptr,
                            left < kPanelRows ? left : kPanelRows};
    const Panel panel = {m.data + p * m.panel_bytes, m.panel_bytes, m.cols, p + 1 < panel_end};
    Isa::template Multiply<kType>(panel, static_cast<const uint8_t*>(activations),
                                  activation_stride, num_tokens, out);
  }
}

template <typename Isa>
void MatMul(const PackedMatrix& m, const void* activations, int64_t activation_stride,
            int64_t num_tokens, const float* bias, int64_t panel_begin, int64_t panel_end, float* y,
            int64_t y_stride) {
  const auto run = [&]<DType kType>() {
    MatMulOf<Isa, kType>(m, activations, activation_stride, num_tokens, bias, panel_begin,
                         panel_end, y, y_stride);
  };
  switch (m.source) {
    case DType::kF32:
      return run.template operator()<DType::kF32>();
    case DType::kF16:
      return run.template operator()<DType::kF16>();
    case DType::kBF16:
      return run.template operator()<DType::kBF16>();
    case DType::kQ4_0:
      return run.template operator()<DType::kQ4_0>();
    case DType::kQ4_1:
      return run.template operator()<DType::kQ4_1>();
    case DType::kQ5_0:
      return run.template operator()<DType::kQ5_0>();
    case DType::kQ5_1:
      return run.template operator()<DType::kQ5_1>();
    case DType::kQ8_0:
      return run.template operator()<DType::kQ8_0>();
    case DType::kQ4_K:
      return run.template operator()<DType::kQ4_K>();
    case DType::kQ5_K:
      return run.template operator()<DType::kQ5_K>();
    case DType::kQ6_K:
      return run.template operator()<DType::kQ6_K>();
  }
}

}  // namespace
}  // namespace trireme::cpu
