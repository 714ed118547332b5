// CPU kernels: one table of functions per instruction set, chosen once at start.
//
// All functions are pure and single-threaded; the caller (runtime/backend) splits panels, rows or
// heads between threads, which never changes a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/ops.h"
#include "runtime/base/ids.h"
#include "runtime/base/tensor_view.h"

namespace trireme::cpu {

// A weight matrix W [rows = N, cols = K] repacked into panels of consecutive output rows
// (gemm_layout.h draws them). Panels are independent and equally large. The matrix does not own its
// bytes.
struct PackedMatrix {
  uint8_t* data = nullptr;  // 64-byte aligned, size_bytes() long
  DType source = DType::kF32;
  int64_t rows = 0;  // N; the last panel is padded with zero rows
  int64_t cols = 0;  // K; a multiple of 32 for quantised types
  int64_t num_panels = 0;
  int64_t panel_bytes = 0;

  int64_t size_bytes() const { return num_panels * panel_bytes; }
};

// The layout is the same for every instruction set (packing is bound by memory).
// Every field of the result but data. Quantised types need cols % BlockSize(source) == 0.
PackedMatrix PlanMatrix(DType source, int64_t rows, int64_t cols);
// Packs panels [panel_begin, panel_end). Source rows are row_bytes apart, starting at `source`; no
// alignment.
void PackPanels(const void* source, int64_t row_bytes, int64_t panel_begin, int64_t panel_end,
                const PackedMatrix& m);
// Row `row` of the matrix, dequantised exactly as the file's format defines. out: [cols].
void UnpackRow(const PackedMatrix& m, int64_t row, float* out);

struct Kernels {
  std::string_view name;  // "portable", "avx2", "avx512"

  // ---- Matrices. y = x W^T.
  // x: [cols] -> out: [cols / 32], the activations of quantised matrices.
  void (*quantize_activation)(const float* x, int64_t cols, ActivationBlock* out);
  // y[i, j] for i in [0, num_tokens) and the columns j < m.rows of panels [panel_begin, panel_end);
  // columns outside are not touched. activations: one row per token, activation_stride bytes apart:
  // ActivationBlocks for a quantised matrix, floats (F32 x) for others; aligned as these. bias: [N]
  // or null. y row stride is y_stride floats. Any K order, but one: y[i, j] is bitwise the same for
  // every num_tokens and every split of the panels.
  void (*matmul)(const PackedMatrix& m, const void* activations, int64_t activation_stride,
                 int64_t num_tokens, const float* bias, int64_t panel_begin, int64_t panel_end,
                 float* y, int64_t y_stride);

  // ---- Rows. One token each.
  void (*rms_norm)(const float* x, const float* gain, float eps, int64_t n, float* y);
  void (*add_rms_norm)(float* x, const float* delta, const float* gain, float eps, int64_t n,
                       float* y);
  void (*add)(float* x, const float* delta, int64_t n);
  void (*gated_activation)(Activation act, const float* gate, const float* up, int64_t n,
                           float* out);

  // ---- Attention.
  // Rotates `num_heads` heads of one token in place. x: [num_heads, head_dim].
  void (*rope)(const RopeTable& table, int64_t position, int num_heads, int head_dim, float* x);
  // Writes one token's K and V [num_kv_heads, head_dim] to its slot of the paged cache.
  void (*store_kv)(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v);
  // Attention of consecutive query tokens of one sequence, for heads [head_begin, head_end); query
  // i stands at position first_position + i. blocks: block table of the sequence. scratch:
  // attention_scratch_bytes, 64-byte aligned.
  void (*attention)(const AttentionParams& params, const KvLayerView& kv,
                    absl::Span<const BlockId> blocks, int64_t first_position, int64_t num_tokens,
                    int head_begin, int head_end, const float* q, int64_t q_stride, float* out,
                    int64_t out_stride, void* scratch);
  int64_t (*attention_scratch_bytes)(const AttentionParams& params, const KvLayerView& kv);
};

// The fastest table that this CPU runs; TRIREME_CPU_ISA=portable|avx2|avx512 lowers the choice
// (tests, comparisons).
const Kernels& BestKernels();
// By name; nullptr when this build or this CPU does not have it.
const Kernels* FindKernels(std::string_view name);

}  // namespace trireme::cpu
