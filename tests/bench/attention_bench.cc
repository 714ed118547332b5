// Attention by shape and instruction set. Decode reports the rate at which KV is read, prefill the
// arithmetic rate, each beside its ceiling measured in the same run: reading memory, in
// large pieces and in such as a KV block of the small model, and multiply-adds in registers.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

struct Shape {
  DType dtype;
  int head_dim, num_kv_heads, group;
};
constexpr Shape kSmolLm2{DType::kF16, 64, 3, 3};
constexpr Shape kLlama8B{DType::kF16, 128, 8, 4};

using Memory = std::unique_ptr<void, decltype(&std::free)>;

// Zeroed, on huge pages where the system grants them, as a node's KV storage should be: random
// blocks on small pages measure the TLB.
Memory Allocate(int64_t bytes) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  const int64_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  Memory memory(std::aligned_alloc(kHugePage, rounded), &std::free);
  madvise(memory.get(), rounded, MADV_HUGEPAGE);
  std::memset(memory.get(), 0, rounded);
  return memory;
}

// One layer's KV of one sequence, blocks in random order.
class Sequence {
 public:
  Sequence(const Kernels& kernels, const Shape& shape, int64_t context)
      : kernels_(kernels), shape_(shape), blocks_((context + 15) / 16) {
    const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
    const int64_t elements = static_cast<int64_t>(blocks_.size()) * 16 * kv_row;
    kv_bytes_ = 2 * elements * BlockBytes(shape.dtype);
    storage_ = Allocate(kv_bytes_);
    std::iota(blocks_.begin(), blocks_.end(), 0);
    std::shuffle(blocks_.begin(), blocks_.end(), std::mt19937_64(1));
    kv_ = {storage_.get(),
           static_cast<uint8_t*>(storage_.get()) + kv_bytes_ / 2,
           shape.dtype,
           shape.num_kv_heads,
           16,
           shape.head_dim,
           16 * kv_row};
    // The values hardly matter: tokens take their rows from a small random pool.
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> pool(kv_row + 64);
    for (float& x : pool) x = normal(random);
    for (int64_t p = 0; p < context; ++p) {
      const float* row = pool.data() + p * 7 % 64;
      kernels.store_kv(kv_, blocks_[p / 16], static_cast<int>(p % 16), row, row);
    }
    params_ = {num_heads(), 1.0f / std::sqrt(static_cast<float>(shape.head_dim))};
    q_.resize(context * q_row());
    for (size_t i = 0; i < q_.size(); ++i) q_[i] = pool[i * 13 % pool.size()];
    out_.resize(q_.size());
  }
  int num_heads() const { return shape_.num_kv_heads * shape_.group; }
  int64_t q_row() const { return int64_t{num_heads()} * shape_.head_dim; }
  int64_t kv_bytes() const { return kv_bytes_; }

  void Attend(int64_t first, int64_t count) {
    kernels_.attention(params_, kv_, blocks_, first, count, 0, num_heads(), q_.data(), q_row(),
                       out_.data(), q_row(), scratch_.get());
    benchmark::ClobberMemory();
  }

 private:
  const Kernels& kernels_;
  const Shape shape_;
  std::vector<BlockId> blocks_;
  int64_t kv_bytes_ = 0;
  Memory storage_{nullptr, &std::free};
  KvLayerView kv_;
  AttentionParams params_;
  std::vector<float> q_, out_;
  Memory scratch_ = Allocate(1 << 20);
};

// Layers in turn, as a model would, so that KV comes from memory and not from a cache.
void Decode(benchmark::State& state, const Kernels& kernels, const Shape& shape, int64_t depth,
            int num_layers) {
  std::vector<std::unique_ptr<Sequence>> layers;
  for (int i = 0; i < num_layers; ++i) {
    layers.push_back(std::make_unique<Sequence>(kernels, shape, depth));
  }
  size_t next = 0;
  for (auto _ : state) layers[next++ % layers.size()]->Attend(depth - 1, 1);
  state.SetBytesProcessed(state.iterations() * layers[0]->kv_bytes());
}

void Prefill(benchmark::State& state, const Kernels& kernels, const Shape& shape, int64_t tokens) {
  Sequence sequence(kernels, shape, tokens);
  for (auto _ : state) sequence.Attend(0, tokens);
  const double pairs = static_cast<double>(tokens) * (tokens + 1) / 2;
  state.counters["FLOP/s"] = benchmark::Counter(
      4.0 * pairs * static_cast<double>(sequence.q_row()) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

// Reads pieces of `piece` bytes, a multiple of 256, in random order: one head's share of a KV block
// is such a piece.
void ReadMemory(benchmark::State& state, int64_t bytes, int64_t piece) {
  const Memory data = Allocate(bytes);
  std::vector<int32_t> order(bytes / piece);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  using Vector = float __attribute__((vector_size(32)));
  for (auto _ : state) {
    Vector sum[8] = {};
    for (int64_t index : order) {
      const auto* p =
          reinterpret_cast<const Vector*>(static_cast<uint8_t*>(data.get()) + index * piece);
      for (int64_t i = 0; i < piece / 32; i += 8) {
        for (int j = 0; j < 8; ++j) sum[j] += p[i + j];
      }
    }
    for (Vector& s : sum) benchmark::DoNotOptimize(s);
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

// Independent chains of fused multiply-adds, as wide as this program's baseline cannot be: the
// target attribute asks for AVX2.
__attribute__((target("avx2,fma"))) void MultiplyAdd(benchmark::State& state) {
  using Vector = float __attribute__((vector_size(32)));
  constexpr int kChains = 12, kSteps = 1000;
  Vector sum[kChains] = {};
  Vector a = Vector{} + 1.0f, b = Vector{} + 0.5f;
  benchmark::DoNotOptimize(a);
  benchmark::DoNotOptimize(b);
  for (auto _ : state) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kChains; ++i) {
        sum[i] = __builtin_ia32_vfmaddps256(a, b, sum[i]);
      }
    }
  }
  for (Vector& s : sum) benchmark::DoNotOptimize(s);
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * 8 * kChains * kSteps * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

struct Candidate {
  const char* name;
  void (*rows)(Kernels*);
  void (*attention)(Kernels*);
  bool runs;
};

void RegisterAll() {
  constexpr int64_t kLarge = int64_t{256} << 20;
  benchmark::RegisterBenchmark("read_memory/1MiB_pieces", ReadMemory, kLarge, int64_t{1} << 20);
  benchmark::RegisterBenchmark("read_memory/2KiB_pieces", ReadMemory, kLarge, int64_t{2048});
  if (__builtin_cpu_supports("fma")) {
    benchmark::RegisterBenchmark("multiply_add/avx2", MultiplyAdd);
  }
  static const Candidate candidates[] = {
      {"portable", FillRowsPortable, FillAttentionPortable, true},
      {"avx2", FillRowsAvx2, FillAttentionAvx2, __builtin_cpu_supports("avx2") != 0},
      {"avx512", FillRowsAvx512, FillAttentionAvx512, __builtin_cpu_supports("avx512vl") != 0}};
  for (const Candidate& candidate : candidates) {
    if (!candidate.runs) continue;
    auto* kernels = new Kernels;
    candidate.attention(kernels);
    const std::string isa = candidate.name;
    const auto add = [&](const std::string& name, auto function, auto... arguments) {
      benchmark::RegisterBenchmark((isa + "/" + name).c_str(), [=](benchmark::State& s) {
        function(s, *kernels, arguments...);
      });
    };
    add("smollm2/decode/4096", Decode, kSmolLm2, int64_t{4096}, 40);
    add("smollm2/decode/4096/cached", Decode, kSmolLm2, int64_t{4096}, 1);
    add("smollm2/decode/256", Decode, kSmolLm2, int64_t{256}, 30);
    add("llama8b/decode/4096", Decode, kLlama8B, int64_t{4096}, 10);
    add("smollm2/prefill/512", Prefill, kSmolLm2, int64_t{512});
    add("llama8b/prefill/512", Prefill, kLlama8B, int64_t{512});
  }
}

}  // namespace
}  // namespace trireme::cpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  trireme::cpu::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
