// The CUDA kernels at the shapes of an 8B model against cuBLASLt, and against what the device was
// measured to do. Times are medians of device time; ratios above 1 are in our favour.
//
//   gpu_bench [--json FILE]   needs a GPU; without one it says "skipped: no GPU"
//   gpu_bench --smoke         small shapes, once: that the products agree and the calls are taken
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/gemm/matmul.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/strings.h"
#include "tests/bench/gpu/attention.h"
#include "tests/bench/gpu/cublaslt.h"

namespace trireme::bench {
namespace {

struct Options {
  bool smoke = false;
  std::string json;
};

class Bench {
 public:
  explicit Bench(const Options& options) : smoke_(options.smoke), rounds_(smoke_ ? 1 : 9) {}

  int Run(const Options& options) {
    cudaDeviceProp properties = {};
    Check(cudaGetDeviceProperties(&properties, 0), "asking for the device");
    MeasureLimits();
    std::printf("%s: copies %.0f GB/s, cuBLASLt bf16 up to %.0f TFLOP/s\n", properties.name,
                limits_.bytes_per_second * 1e-9, limits_.flops_per_second * 1e-12);
    PrintHeader();
    const std::vector<int64_t> tokens =
        smoke_ ? std::vector<int64_t>{1, 24} : std::vector<int64_t>{1, 16, 64, 512, 4096};
    const std::vector<std::pair<int64_t, int64_t>> matrices =
        smoke_ ? std::vector<std::pair<int64_t, int64_t>>{{96, 128}}
               : std::vector<std::pair<int64_t, int64_t>>{
                     {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    for (const auto& [rows, cols] : matrices) {
      for (const int64_t t : tokens) MatMul(rows, cols, t);
    }
    Attend();
    Norm();
    if (!options.json.empty()) {
      std::ofstream(options.json) << ToJson(rows_, properties.name, limits_) << '\n';
    }
    return failed_ ? 1 : 0;
  }

 private:
  void Add(Row row) {
    Print(row, limits_);
    rows_.push_back(std::move(row));
  }

  void MeasureLimits() {
    const size_t bytes = smoke_ ? 1 << 16 : size_t{1} << 30;
    const Memory from(bytes), to(bytes);
    const double copy = Milliseconds(rounds_, [&] {
      Check(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, nullptr),
            "copying");
    });
    limits_.bytes_per_second = 2 * static_cast<double>(bytes) / (copy * 1e-3);
    const int64_t n = smoke_ ? 64 : 8192;
    const auto elements = static_cast<size_t>(n * n);
    Memory w(elements * 2), x(elements * 2);
    const Memory y(elements * 2);
    w.Fill(RandomBf16(elements, 1).data(), elements * 2);
    x.Fill(RandomBf16(elements, 2).data(), elements * 2);
    const CublasLt peer(n, n, n);
    const double time = Milliseconds(rounds_, [&] { peer.Multiply(w.get(), x.get(), y.get()); });
    limits_.flops_per_second = 2 * std::pow(static_cast<double>(n), 3) / (time * 1e-3);
  }

  // bf16 against cuBLASLt on the same numbers; quantised weights against the same bf16 product.
  void MatMul(int64_t rows, int64_t cols, int64_t tokens) {
    const auto weights = static_cast<size_t>(rows * cols), in = static_cast<size_t>(tokens * cols);
    const auto out = static_cast<size_t>(tokens * rows);
    const std::vector<uint16_t> values = RandomBf16(weights, 3);
    Memory plain(weights * 2), x(in * 2), y(out * 2), peer_y(out * 2);
    plain.Fill(values.data(), weights * 2);
    x.Fill(RandomBf16(in, 4).data(), in * 2);
    const CublasLt peer(rows, cols, tokens);
    const double peer_time =
        Milliseconds(rounds_, [&] { peer.Multiply(plain.get(), x.get(), peer_y.get()); });
    for (const DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
      // Random blocks would hold scales that are not numbers: of zeros, products take as long.
      std::vector<uint8_t> source(static_cast<size_t>(rows * RowBytes(type, cols)));
      if (type == DType::kBF16) std::memcpy(source.data(), values.data(), source.size());
      cuda::PackedMatrix matrix;
      matrix.format = cuda::FormatOf(type);
      matrix.layout = cuda::LayoutFor(matrix.format);
      matrix.rows = rows;
      matrix.cols = cols;
      std::vector<uint8_t> packed(cuda::PackedBytes(matrix.format, rows, cols, matrix.layout));
      cuda::PackTiles(type, source.data(), DType::kBF16, rows, cols, 0,
                      (rows + cuda::kTileRows - 1) / cuda::kTileRows, packed.data(), matrix.layout);
      Memory on_device(packed.size());
      on_device.Fill(packed.data(), packed.size());
      matrix.data = on_device.get();
      const double time = Milliseconds(rounds_, [&] {
        Check(cuda::MatMul(matrix, x.get(), tokens, /*f32_out=*/false, y.get(), rows, nullptr),
              "matrix product");
      });
      Add({.what = StrCat("matmul ", std::string(DTypeName(type)), " ", rows, "x", cols, ", ",
                          tokens, " tokens"),
           .milliseconds = time,
           .flops = 2.0 * static_cast<double>(rows) * static_cast<double>(cols * tokens),
           .bytes = static_cast<double>(packed.size()) + 2.0 * static_cast<double>(in + out),
           .peer_milliseconds = peer_time});
      if (type == DType::kBF16) Compare(y, peer_y, out, std::sqrt(static_cast<double>(cols)));
    }
  }

  // The two sum in different orders, and round to bf16.
  void Compare(const Memory& y, const Memory& peer_y, size_t count, double scale) {
    std::vector<uint16_t> ours(count), theirs(count);
    Check(cudaMemcpy(ours.data(), y.get(), count * 2, cudaMemcpyDeviceToHost), "reading");
    Check(cudaMemcpy(theirs.data(), peer_y.get(), count * 2, cudaMemcpyDeviceToHost), "reading");
    double worst = 0;
    for (size_t i = 0; i < count; ++i) {
      worst = std::max(worst, std::fabs(double{BF16ToFloat(ours[i])} - BF16ToFloat(theirs[i])));
    }
    if (worst <= 0.02 * scale) return;
    std::printf("  WRONG: the products differ by %g\n", worst);
    failed_ = true;
  }

  void Attend() {
    const std::vector<AttentionShape> shapes =
        smoke_ ? std::vector<AttentionShape>{{2, 1, 300, 4, 2, 64}, {1, 40, 70, 4, 2, 64}}
               : std::vector<AttentionShape>{{1, 1, 4096},  {64, 1, 4096},   {8, 1, 32768},
                                             {1, 512, 512}, {1, 4096, 4096}, {1, 512, 32768}};
    for (const AttentionShape& shape : shapes) {
      const AttentionCall call(shape);
      const double time = Milliseconds(rounds_, [&] { call(); });
      Add({.what = StrCat("attention ", shape.sequences, " x ", shape.tokens, " tokens at ",
                          shape.context),
           .milliseconds = time,
           .flops = call.flops(),
           .bytes = call.bytes()});
      for (const uint16_t value : call.Output()) {
        if (std::isfinite(BF16ToFloat(value))) continue;
        std::printf("  WRONG: not a number\n");
        failed_ = true;
        break;
      }
    }
  }

  void Norm() {
    const int64_t cols = smoke_ ? 64 : 4096;
    for (const int64_t tokens : {int64_t{1}, smoke_ ? int64_t{3} : int64_t{4096}}) {
      const auto elements = static_cast<size_t>(tokens * cols);
      const Memory x(elements * 4), delta(elements * 2), y(elements * 2);
      const Memory gain(static_cast<size_t>(cols) * 4);
      const double time = Milliseconds(rounds_, [&] {
        Check(cuda::AddRmsNorm(DType::kBF16, x.as<float>(), delta.get(), 1, gain.as<float>(), 1e-5f,
                               tokens, cols, y.get(), nullptr),
              "norm");
      });
      Add({.what = StrCat("add + norm ", cols, ", ", tokens, " tokens"),
           .milliseconds = time,
           .bytes = 12.0 * static_cast<double>(elements)});
    }
  }

  const bool smoke_;
  const int rounds_;
  Limits limits_;
  std::vector<Row> rows_;
  bool failed_ = false;
};

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  trireme::bench::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--smoke") {
      options.smoke = true;
    } else if (argument == "--json" && i + 1 < argc) {
      options.json = argv[++i];
    } else {
      std::fprintf(stderr, "usage: gpu_bench [--smoke] [--json FILE]\n");
      return 2;
    }
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no GPU\n");
    return 0;
  }
  return trireme::bench::Bench(options).Run(options);
}
