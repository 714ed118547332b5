// Matrix products on one thread at the shapes of SmolLM2-135M. Two rates: weights read (GB/s,
// packed bytes; what bounds one token) and arithmetic (GOP/s; what bounds many tokens).
//
//   kernels_bench --benchmark_filter='avx2/Q4_1/.*'
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"

namespace trireme::cpu {
namespace {

struct Shape {
  int64_t rows, cols;
};
constexpr Shape kShapes[] = {{960, 576}, {3072, 576}, {576, 1536}};  // QKV, gate and up, down

struct Free {
  void operator()(uint8_t* p) const { std::free(p); }
};

// The weights of this many bytes are streamed in turn, so that a single token reads memory, as in a
// model.
constexpr int64_t kStreamedBytes = 64 << 20;

void MatMul(benchmark::State& state, const Kernels* kernels, DType type, Shape shape,
            int64_t tokens) {
  PackedMatrix m = PlanMatrix(type, shape.rows, shape.cols);
  const int64_t copies = tokens <= 8 ? kStreamedBytes / m.size_bytes() + 1 : 1;
  const std::unique_ptr<uint8_t, Free> storage(
      static_cast<uint8_t*>(std::aligned_alloc(64, copies * m.size_bytes())));
  // Ordinary numbers in every type: scales of subnormal size would be slow.
  std::memset(storage.get(), 0x11, copies * m.size_bytes());
  std::vector<float> x(tokens * shape.cols, 0.5f), y(tokens * shape.rows);
  std::vector<ActivationBlock> blocks(tokens * shape.cols / kBlock);
  const bool quantized = IsQuantized(type);
  const int64_t stride =
      quantized ? shape.cols / kBlock * sizeof(ActivationBlock) : shape.cols * sizeof(float);
  int64_t copy = 0;
  for (auto _ : state) {
    m.data = storage.get() + copy * m.size_bytes();
    copy = (copy + 1) % copies;
    if (quantized) {
      kernels->quantize_activation(x.data(), tokens * shape.cols, blocks.data());
    }
    const void* activations = quantized ? static_cast<void*>(blocks.data()) : x.data();
    kernels->matmul(m, activations, stride, tokens, nullptr, 0, m.num_panels, y.data(), shape.rows);
    benchmark::ClobberMemory();
  }
  const auto rate = [&](double per_iteration) {
    return benchmark::Counter(per_iteration * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GB/s"] = rate(static_cast<double>(m.size_bytes()));
  state.counters["GOP/s"] = rate(2.0 * tokens * shape.rows * shape.cols);
}

int RegisterAll() {
  for (const char* isa : {"avx512", "avx2", "portable"}) {
    const Kernels* kernels = FindKernels(isa);
    if (kernels == nullptr) continue;
    for (DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ8_0, DType::kQ5_1, DType::kQ4_K,
                       DType::kQ6_K, DType::kBF16, DType::kF16, DType::kF32}) {
      for (int64_t tokens : {1, 8, 64, 512}) {
        for (const Shape& shape : kShapes) {
          // All shapes for the demo model's type; the last, which every type can have, for the
          // others.
          if (type != DType::kQ4_1 && shape.rows != kShapes[2].rows) continue;
          const std::string name = std::string(isa) + "/" + std::string(DTypeName(type)) +
                                   "/M=" + std::to_string(tokens) +
                                   "/N=" + std::to_string(shape.rows) +
                                   "/K=" + std::to_string(shape.cols);
          benchmark::RegisterBenchmark(name.c_str(), MatMul, kernels, type, shape, tokens);
        }
      }
    }
  }
  return 0;
}

const int registered = RegisterAll();

}  // namespace
}  // namespace trireme::cpu
