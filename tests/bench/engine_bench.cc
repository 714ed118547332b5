// The model alone on the CPU backend: no scheduler, no sampler, no server.
//
//   engine_bench MODEL [--threads N] [--test prefill:512] [--test decode:32] [--test depth:4096]
//   engine_bench MODEL [--threads N] --test gemm:512
//   engine_bench MODEL --perplexity FILE [--threads N]
//   engine_bench --limits [--threads N]
//
// A JSON object a line. prefill:T one prompt of T tokens in steps of at most 512, the last with
// logits; decode:S S sequences, behind a prompt of 16 tokens each, a token of each a step; depth:D
// one sequence behind D tokens; gemm:T the layers' matrix products alone, each of T tokens' rows,
// the quantisation of the rows included (GOP/s, a multiply-add being two). Each test is measured
// once, after a pass that warms up; who compares runs the program several times
// (tests/bench/run.sh). Weights are read once a step, so that tokens/s * weight bytes / sequences
// is what comes from memory. --perplexity: of a text, as perplexity.h counts it.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/backend/cpu_backend.h"
#include "runtime/base/cpus.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_files.h"
#include "server/cli/bandwidth.h"
#include "tests/bench/cpu_peak.h"
#include "tests/bench/perplexity.h"

namespace trireme {
namespace {

constexpr int kStepTokens = 512;
constexpr int kPromptTokens = 16;
constexpr int kDecodeSteps = 64;
constexpr int kBlockSize = 16;

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "engine_bench: %s\n", why.c_str());
  std::exit(2);
}

template <typename T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) Fail(value.status().ToString());
  return *std::move(value);
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Sequences of equal length, all with blocks of their own.
class Bench {
 public:
  Bench(const std::string& model, int threads, int num_sequences, int tokens_each)
      : backend_(Value(MakeCpuBackend({.num_threads = threads}))) {
    const ModelFiles files = Value(OpenModelFiles(model));
    const DecoderLimits limits = {.max_step_tokens = kStepTokens,
                                  .max_logit_tokens = num_sequences};
    decoder_ = Value(Decoder::Load(files.spec, *files.checkpoint, *backend_, limits, {}));
    blocks_each_ = (tokens_each + kBlockSize - 1) / kBlockSize;
    kv_ = Value(KvStorage::Create(KvShape::Of(files.spec, kBlockSize, DType::kF16),
                                  num_sequences * blocks_each_, *backend_));
    logits_memory_ = Value(backend_->AllocateReadable(static_cast<size_t>(num_sequences) *
                                                      files.spec.vocab_size * sizeof(float)));
    logits_ = {logits_memory_->data(), DType::kF32, num_sequences, files.spec.vocab_size};
    blocks_.resize(static_cast<size_t>(num_sequences) * blocks_each_);
    for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i] = static_cast<BlockId>(i);
    for (int i = 0; i < num_sequences; ++i) length_.push_back(0);
  }

  // `count` further tokens of the sequences [first, end); the logits of each one's last.
  void Step(int first, int end, int count, bool logits) {
    tokens_.clear();
    slices_.clear();
    logit_tokens_.clear();
    for (int s = first; s < end; ++s) {
      const auto begin = static_cast<int>(tokens_.size());
      for (int i = 0; i < count; ++i) {
        tokens_.push_back(static_cast<TokenId>((s * 7919 + (length_[s] + i) * 104729) %
                                               (decoder_->spec().vocab_size - 1)));
      }
      slices_.push_back({begin, count, length_[s],
                         absl::MakeConstSpan(blocks_).subspan(static_cast<size_t>(s) * blocks_each_,
                                                              blocks_each_)});
      if (logits) logit_tokens_.push_back(begin + count - 1);
      length_[s] += count;
    }
    decoder_->Forward({tokens_, slices_, logit_tokens_}, *kv_, *backend_, logits_);
    const absl::Status status = backend_->Synchronize();
    if (!status.ok()) Fail(status.ToString());
  }
  void Prefill(int sequence, int count) {
    for (int left = count; left > 0; left -= kStepTokens) {
      Step(sequence, sequence + 1, std::min(left, kStepTokens), left <= kStepTokens);
    }
  }
  void Restart() { std::fill(length_.begin(), length_.end(), 0); }

  const Decoder& decoder() const { return *decoder_; }
  const KvShape& kv_shape() const { return kv_->shape(); }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<const Decoder> decoder_;
  std::unique_ptr<const KvStorage> kv_;
  std::unique_ptr<Buffer> logits_memory_;
  Tensor logits_;
  int blocks_each_ = 0;
  std::vector<BlockId> blocks_;
  std::vector<int64_t> length_;
  std::vector<TokenId> tokens_;
  std::vector<SequenceSlice> slices_;
  std::vector<int32_t> logit_tokens_;
};

void Print(std::string_view test, double tokens_per_second, double context, const Bench& bench) {
  const KvShape& kv = bench.kv_shape();
  const double kv_bytes = context * static_cast<double>(kv.block_bytes()) / kv.block_size;
  std::printf(
      "{\"test\":\"%.*s\",\"tokens_per_s\":%.2f,\"weight_bytes_per_step\":%zu,"
      "\"kv_bytes_per_token\":%.0f,\"isa\":\"%.*s\"}\n",
      static_cast<int>(test.size()), test.data(), tokens_per_second, bench.decoder().weight_bytes(),
      kv_bytes, static_cast<int>(cpu::BestKernels().name.size()), cpu::BestKernels().name.data());
  std::fflush(stdout);
}

void RunGemm(const std::string& model, std::string_view test, int tokens, int threads) {
  const auto backend = Value(MakeCpuBackend({.num_threads = threads}));
  const ModelFiles files = Value(OpenModelFiles(model));
  std::vector<std::unique_ptr<Weight>> weights;
  int64_t most_rows = 0, most_cols = 0;
  double operations = 0;
  for (const std::string& name : files.checkpoint->Names()) {
    const TensorView tensor = Value(files.checkpoint->Find(name));
    const bool of_layer = tensor.shape.size() == 2 && tensor.rows() != files.spec.vocab_size;
    if (!of_layer) continue;
    weights.push_back(Value(backend->PrepareMatrix({&tensor, 1}, {})));
    most_rows = std::max(most_rows, tensor.rows());
    most_cols = std::max(most_cols, tensor.cols());
    operations += 2.0 * tokens * static_cast<double>(tensor.num_elements());
  }
  if (weights.empty()) Fail("no matrices in the layers of " + model);
  std::vector<float> x(static_cast<size_t>(tokens * most_cols)),
      y(static_cast<size_t>(tokens * most_rows));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 2003) / 1000 - 1;
  const auto pass = [&] {
    for (const auto& weight : weights) {
      backend->MatMul(*weight, {x.data(), DType::kF32, tokens, weight->cols()},
                      {y.data(), DType::kF32, tokens, weight->rows()});
    }
  };
  pass();
  const double start = Seconds();
  pass();
  std::printf("{\"test\":\"%.*s\",\"gop_per_s\":%.2f}\n", static_cast<int>(test.size()),
              test.data(), operations * 1e-9 / (Seconds() - start));
  std::fflush(stdout);
}

void Run(const std::string& model, std::string_view test, int threads) {
  const size_t colon = test.find(':');
  const int number = colon == std::string_view::npos ? 0 : std::atoi(test.data() + colon + 1);
  const std::string_view kind = test.substr(0, colon);
  if (number < 1 || (kind != "prefill" && kind != "decode" && kind != "depth" && kind != "gemm")) {
    Fail("no such test: " + std::string(test));
  }
  if (kind == "gemm") return RunGemm(model, test, number, threads);
  if (kind == "decode" && number > kStepTokens) Fail("at most 512 sequences");
  const int sequences = kind == "decode" ? number : 1;
  const int prompt = kind == "decode" ? kPromptTokens : number;
  Bench bench(model, threads, sequences, prompt + kDecodeSteps);
  if (kind == "prefill") {
    bench.Prefill(0, number);
    bench.Restart();
    const double start = Seconds();
    bench.Prefill(0, number);
    return Print(test, number / (Seconds() - start), number / 2.0, bench);
  }
  for (int s = 0; s < sequences; ++s) bench.Prefill(s, prompt);
  const int warm_up = kDecodeSteps / 8;
  for (int i = 0; i < warm_up; ++i) bench.Step(0, sequences, 1, true);
  const double start = Seconds();
  for (int i = warm_up; i < kDecodeSteps; ++i) bench.Step(0, sequences, 1, true);
  const double seconds = Seconds() - start;
  Print(test, sequences * (kDecodeSteps - warm_up) / seconds, prompt + kDecodeSteps / 2.0, bench);
}

void PrintLimits(int threads) {
  const int64_t bandwidth = Value(MeasureReadBandwidth(threads, absl::Seconds(1)));
  const CpuPeak peak = MeasureCpuPeak(threads);
  std::printf("{\"dram_gb_per_s\":%.1f,\"fp32_gflop_per_s\":%.1f,\"int8_gop_per_s\":%.1f}\n",
              static_cast<double>(bandwidth) * 1e-9, peak.fp32_gflop_per_s, peak.int8_gop_per_s);
}

void PrintPerplexity(const std::string& model, const std::string& text_file, int threads) {
  const Perplexity found = Value(MeasurePerplexity(model, text_file, threads));
  std::printf("{\"perplexity\":%.6f,\"tokens\":%d}\n", found.value, found.num_tokens);
}

int Main(int argc, char** argv) {
  std::string model, text_file;
  std::vector<std::string_view> tests;
  int threads = AvailableCpus();
  bool limits = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--limits") {
      limits = true;
    } else if (argument == "--threads" && i + 1 < argc) {
      threads = std::atoi(argv[++i]);
    } else if (argument == "--perplexity" && i + 1 < argc) {
      text_file = argv[++i];
    } else if (argument == "--test" && i + 1 < argc) {
      tests.push_back(argv[++i]);
    } else if (!argument.starts_with("-") && model.empty()) {
      model = argument;
    } else {
      Fail("what is " + std::string(argument) + "? The head of engine_bench.cc tells the usage");
    }
  }
  if (threads < 1 || (model.empty() && !limits)) Fail("usage: engine_bench MODEL --test NAME...");
  if (limits) PrintLimits(threads);
  if (!text_file.empty()) PrintPerplexity(model, text_file, threads);
  for (const std::string_view test : tests) Run(model, test, threads);
  return 0;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) { return trireme::Main(argc, argv); }
