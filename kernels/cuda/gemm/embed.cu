// One CTA gathers one token's row. Four lanes of a quad hold 16 columns of the row: half of their
// 16 bytes, as the other half is row + 8's.
#include "kernels/cuda/gemm/fragments.cuh"

namespace trireme::cuda {
namespace {

struct EmbedArgs {
  const uint8_t* table = nullptr;
  const int32_t* tokens = nullptr;
  float* x = nullptr;
  float scale = 1.0f;
  int first_token = 0;
  int rows = 0, cols = 0, steps = 0;
};
constexpr int kEmbedThreads = 128;

__device__ uint32_t LoadWord(const uint8_t* from) {
  return __ldg(reinterpret_cast<const uint32_t*>(from));
}

// Codes of two columns from registers `row / 8` and `row / 8 + 2` of k step k: four elements.
template <MatrixFormat kFormat, DType kType>
__device__ void Codes(const uint8_t* step, int lane, int k, int half, float2 (&codes)[2]) {
  const uint8_t* const from = step + lane * 16;
  if constexpr (kFormat == MatrixFormat::kPlain) {
    for (int i = 0; i < 2; ++i) {
      codes[i] = Unpack<kType>(LoadWord(from + k * 512 + (half + 2 * i) * 4));
    }
  } else {
    uint32_t a[4];
    if constexpr (kFormat == MatrixFormat::kQ8_0) {
      const uint8_t* const words = from + k / 2 * 512 + k % 2 * 8;
      DequantizeBytes<kType>(LoadWord(words), a[0], a[1]);
      DequantizeBytes<kType>(LoadWord(words + 4), a[2], a[3]);
    } else {
      DequantizeNibbles<kFormat, kType>(LoadWord(from + k * 4), a);
    }
    for (int i = 0; i < 2; ++i) {
      codes[i] = Unpack<kType>(half == 0 ? a[2 * i] : a[2 * i + 1]);
    }
  }
}

// F16 of row `lane / 4 + 8 half` for k step k.
__device__ float Scale(const uint8_t* scales, int lane, int k, int half) {
  const float2 both = Unpack<DType::kF16>(LoadWord(scales + lane / 4 * 8 + k / 2 * 4));
  return half == 0 ? both.x : both.y;
}

template <MatrixFormat kFormat, DType kType>
__global__ void __launch_bounds__(kEmbedThreads) EmbedKernel(const __grid_constant__ EmbedArgs p) {
  constexpr int kStepBytes = kStepBytesOf<kFormat>, kCodeBytes = kCodeBytesOf<kFormat>;
  const int32_t id = p.tokens[blockIdx.x] - p.first_token;
  const bool known = id >= 0 && id < p.rows;
  const int row = known ? id % 16 : 0, half = row / 8;
  const uint8_t* const tile =
      p.table + static_cast<int64_t>(known ? id / 16 : 0) * p.steps * kStepBytes;
  float* const x = p.x + static_cast<int64_t>(blockIdx.x) * p.cols;
  // i: quads of lanes by k step
  for (int i = static_cast<int>(threadIdx.x); i < p.steps * 16; i += kEmbedThreads) {
    const int lane = row % 8 * 4 + i % 4, k = i / 4 % 4;
    const uint8_t* const step = tile + i / 16 * kStepBytes;
    float2 values[2] = {};
    if (known) {
      Codes<kFormat, kType>(step, lane, k, half, values);
      if constexpr (kFormat != MatrixFormat::kPlain) {
        const float d = Scale(step + kCodeBytes, lane, k, half);
        const float m = kFormat == MatrixFormat::kQ4_1
                            ? Scale(step + kCodeBytes + kScaleBytes, lane, k, half)
                            : 0.0f;
        for (float2& v : values) v = {d * v.x + m, d * v.y + m};
      }
    }
    for (int j = 0; j < 2; ++j) {
      const int col = i / 4 * 16 + j * 8 + i % 4 * 2;
      if (col < p.cols) {
        *reinterpret_cast<float2*>(x + col) = {values[j].x * p.scale, values[j].y * p.scale};
      }
    }
  }
}

// A table in rows.
template <DType kType>
__global__ void __launch_bounds__(kEmbedThreads)
    EmbedRowsKernel(const __grid_constant__ EmbedArgs p) {
  const int32_t id = p.tokens[blockIdx.x] - p.first_token;
  const bool known = id >= 0 && id < p.rows;
  const uint8_t* const row = p.table + static_cast<int64_t>(known ? id : 0) * p.cols * 2;
  float* const x = p.x + static_cast<int64_t>(blockIdx.x) * p.cols;
  for (int col = static_cast<int>(threadIdx.x) * 2; col < p.cols; col += kEmbedThreads * 2) {
    const float2 v = known ? Unpack<kType>(LoadWord(row + col * 2)) : float2{};
    *reinterpret_cast<float2*>(x + col) = {v.x * p.scale, v.y * p.scale};
  }
}

cudaError_t Launch(const void* kernel, const EmbedArgs& args, int64_t num_tokens,
                   cudaStream_t stream) {
  void* arguments[] = {const_cast<EmbedArgs*>(&args)};
  return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(num_tokens)), dim3(kEmbedThreads),
                          arguments, 0, stream);
}

template <MatrixFormat kFormat>
cudaError_t Launch(DType type, const EmbedArgs& args, int64_t num_tokens, cudaStream_t stream) {
  const auto kernel =
      type == DType::kBF16 ? EmbedKernel<kFormat, DType::kBF16> : EmbedKernel<kFormat, DType::kF16>;
  return Launch(reinterpret_cast<const void*>(kernel), args, num_tokens, stream);
}

}  // namespace

cudaError_t Embed(const PackedMatrix& table, int64_t first_token, const int32_t* tokens,
                  int64_t num_tokens, float scale, float* x, cudaStream_t stream) {
  if (num_tokens == 0) return cudaSuccess;
  const EmbedArgs args{.table = static_cast<const uint8_t*>(table.data),
                       .tokens = tokens,
                       .x = x,
                       .scale = scale,
                       .first_token = static_cast<int>(first_token),
                       .rows = static_cast<int>(table.rows),
                       .cols = static_cast<int>(table.cols),
                       .steps = static_cast<int>(NumSteps(table.cols))};
  if (table.layout == MatrixLayout::kRows) {
    const auto kernel =
        table.type == DType::kBF16 ? EmbedRowsKernel<DType::kBF16> : EmbedRowsKernel<DType::kF16>;
    return Launch(reinterpret_cast<const void*>(kernel), args, num_tokens, stream);
  }
  switch (table.format) {
    case MatrixFormat::kPlain:
      return Launch<MatrixFormat::kPlain>(table.type, args, num_tokens, stream);
    case MatrixFormat::kQ8_0:
      return Launch<MatrixFormat::kQ8_0>(table.type, args, num_tokens, stream);
    case MatrixFormat::kQ4_0:
      return Launch<MatrixFormat::kQ4_0>(table.type, args, num_tokens, stream);
    case MatrixFormat::kQ4_1:
      return Launch<MatrixFormat::kQ4_1>(table.type, args, num_tokens, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
