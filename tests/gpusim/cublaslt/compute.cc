#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/cublaslt/matmul.h"
#include "tests/gpusim/cudart/runtime.h"
#include "tests/gpusim/vm/fp8.h"

namespace trireme::gpusim {
namespace {

float Load(const std::byte* from, int32_t type) {
  uint16_t half;
  float value;
  switch (type) {
    case CUDA_R_16BF:
      std::memcpy(&half, from, sizeof(half));
      return FromBf16(half);
    case CUDA_R_16F:
      std::memcpy(&half, from, sizeof(half));
      return FromF16(half);
    case CUDA_R_8F_E4M3:
      return FromE4m3(static_cast<uint8_t>(*from));
    case CUDA_R_8F_E5M2:
      return FromE5m2(static_cast<uint8_t>(*from));
    default:
      std::memcpy(&value, from, sizeof(value));
      return value;
  }
}

void Store(float value, int32_t type, std::byte* to) {
  const auto put = [to](auto bits) { std::memcpy(to, &bits, sizeof(bits)); };
  switch (type) {
    case CUDA_R_16BF:
      return put(ToBf16(value));
    case CUDA_R_16F:
      return put(ToF16(value));
    case CUDA_R_8F_E4M3:
      return put(ToE4m3(value));
    case CUDA_R_8F_E5M2:
      return put(ToE5m2(value));
    default:
      return put(value);
  }
}

float Gelu(float x) {  // the tanh form, as the library's
  return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
}

class Run {
 public:
  Run(const Problem& problem, DeviceMemory& memory) : p_(problem), memory_(memory) {}

  bool All() {
    ReadScalars();
    for (int32_t batch = 0; batch < p_.d.batch_count && !gone_; ++batch) One(batch);
    if (p_.matmul.d_largest != nullptr && !gone_) WriteFloat(p_.matmul.d_largest, largest_);
    if (p_.workspace != nullptr && p_.algorithm.workspace_bytes != 0 && !gone_) SpoilWorkspace();
    return !gone_;
  }

 private:
  std::byte* Find(const void* pointer, uint64_t bytes) {
    std::byte* const found = memory_.Find(reinterpret_cast<uint64_t>(pointer), bytes);
    gone_ |= found == nullptr;
    return found;
  }
  // Bytes that are read: a finding if they were never written.
  const std::byte* Read(const void* pointer, uint64_t bytes, std::string_view what) {
    const std::byte* const found = Find(pointer, bytes);
    if (found == nullptr) return nullptr;
    if (!memory_.Defined(reinterpret_cast<uint64_t>(pointer), bytes)) Report(what);
    CheckOrder(reinterpret_cast<uint64_t>(pointer), bytes, RangeUse::kRead);
    return found;
  }
  void Report(std::string_view what) {
    Runtime::Get().ReportUninitialized("cublasLtMatmul",
                                       StrCat(what, " is read, and not all of it was written"));
  }
  void CheckOrder(uint64_t address, uint64_t bytes, RangeUse use) {
    Runtime::Get().CheckOrder(memory_, address, bytes, use);
  }
  float ReadFloat(const void* pointer, float otherwise, std::string_view what) {
    if (pointer == nullptr) return otherwise;
    const std::byte* const found = Read(pointer, sizeof(float), what);
    return found != nullptr ? Load(found, CUDA_R_32F) : otherwise;
  }
  void WriteFloat(void* pointer, float value) {
    std::byte* const found = Find(pointer, sizeof(float));
    if (found == nullptr) return;
    Store(value, CUDA_R_32F, found);
    CheckOrder(reinterpret_cast<uint64_t>(pointer), sizeof(float), RangeUse::kWrite);
    memory_.SetDefined(reinterpret_cast<uint64_t>(pointer), sizeof(float));
  }
  // What stood there is lost: who shares the workspace with something else sees that.
  void SpoilWorkspace() {
    const uint64_t bytes = p_.algorithm.workspace_bytes;
    std::byte* const found = Find(p_.workspace, bytes);
    if (found == nullptr) return;
    CheckOrder(reinterpret_cast<uint64_t>(p_.workspace), bytes, RangeUse::kWrite);
    std::memset(found, 0xff, bytes);
  }

  void ReadScalars() {
    alpha_ = ReadFloat(p_.alpha, p_.alpha_value, "alpha");
    beta_ = ReadFloat(p_.beta, p_.beta_value, "beta");
    alpha_ *=
        ReadFloat(p_.matmul.a_scale, 1, "A's scale") * ReadFloat(p_.matmul.b_scale, 1, "B's scale");
    beta_ *= ReadFloat(p_.matmul.c_scale, 1, "C's scale");
    d_scale_ = ReadFloat(p_.matmul.d_scale, 1, "D's scale");
  }

  static uint64_t Place(const Layout& layout, uint64_t row, uint64_t column) {
    const auto ld = static_cast<uint64_t>(layout.ld);
    return layout.order == CUBLASLT_ORDER_COL ? column * ld + row : row * ld + column;
  }
  // A matrix of a batch as floats, line by line; line i holds what is at (i, j), or (j, i) turned.
  std::vector<float> Lines(const void* pointer, const Layout& layout, int32_t batch, bool turned,
                           std::string_view what) {
    const uint64_t lines = turned ? layout.cols : layout.rows,
                   length = turned ? layout.rows : layout.cols;
    const size_t size = BytesOfType(layout.type);
    const void* const start = static_cast<const char*>(pointer) + Offset(layout, batch);
    const std::byte* const from = Find(start, BytesOfOne(layout));
    bool defined = true;
    EachStoredLine(start, layout, [&](uint64_t address, uint64_t bytes) {
      if (from == nullptr) return;
      defined &= memory_.Defined(address, bytes);
      CheckOrder(address, bytes, RangeUse::kRead);
    });
    if (!defined) Report(what);
    std::vector<float> values(lines * length);
    for (uint64_t i = 0; i < lines && from != nullptr; ++i) {
      for (uint64_t j = 0; j < length; ++j) {
        values[i * length + j] =
            Load(from + size * (turned ? Place(layout, j, i) : Place(layout, i, j)), layout.type);
      }
    }
    return values;
  }
  // f(address, bytes) of what belongs to the matrix; what lies between its lines does not.
  template <typename F>
  static void EachStoredLine(const void* start, const Layout& layout, F&& f) {
    const bool columns = layout.order == CUBLASLT_ORDER_COL;
    const uint64_t lines = columns ? layout.cols : layout.rows,
                   length = columns ? layout.rows : layout.cols;
    const size_t size = BytesOfType(layout.type);
    for (uint64_t line = 0; line < lines; ++line) {
      f(reinterpret_cast<uint64_t>(start) + line * static_cast<uint64_t>(layout.ld) * size,
        length * size);
    }
  }
  static int64_t Offset(const Layout& layout, int32_t batch) {
    return batch * layout.batch_stride * static_cast<int64_t>(BytesOfType(layout.type));
  }

  void One(int32_t batch) {
    const uint64_t m = p_.m(), n = p_.n(), k = p_.k();
    // a[k][m], b[n][k]: sums over k in order, m side by side.
    const auto a = Lines(p_.pointer_a, p_.a, batch, p_.matmul.transpose_a == CUBLAS_OP_N, "A");
    const auto b = Lines(p_.pointer_b, p_.b, batch, p_.matmul.transpose_b == CUBLAS_OP_N, "B");
    std::vector<float> c, bias;
    if (beta_ != 0) c = Lines(p_.pointer_c, p_.c, batch, true, "C");  // [n][m]
    if ((p_.matmul.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) bias = ReadBias(batch);
    if (gone_) return;
    void* const start = static_cast<char*>(p_.pointer_d) + Offset(p_.d, batch);
    std::byte* const d = Find(start, BytesOfOne(p_.d));
    if (gone_) return;
    const auto parts = static_cast<uint64_t>(p_.algorithm.split_k);
    std::vector<float> sum(m), part(m);
    for (uint64_t column = 0; column < n; ++column) {
      for (uint64_t i = 0; i < parts; ++i) {
        std::fill(part.begin(), part.end(), 0.0f);
        for (uint64_t at = k * i / parts; at < k * (i + 1) / parts; ++at) {
          const float factor = b[column * k + at];
          const float* const line = &a[at * m];
          for (uint64_t row = 0; row < m; ++row) part[row] += line[row] * factor;
        }
        for (uint64_t row = 0; row < m; ++row) sum[row] = i == 0 ? part[row] : sum[row] + part[row];
      }
      for (uint64_t row = 0; row < m; ++row) {
        float value = alpha_ * sum[row];
        if (beta_ != 0) value += beta_ * c[column * m + row];
        if (!bias.empty()) value += bias[row];
        WriteElement(Epilogue(value), row, column, d);
      }
    }
    EachStoredLine(start, p_.d, [&](uint64_t address, uint64_t bytes) {
      CheckOrder(address, bytes, RangeUse::kWrite);
      memory_.SetDefined(address, bytes);
    });
  }

  float Epilogue(float value) const {
    if ((p_.matmul.epilogue & CUBLASLT_EPILOGUE_RELU) != 0) return std::max(value, 0.0f);
    if ((p_.matmul.epilogue & CUBLASLT_EPILOGUE_GELU) != 0) return Gelu(value);
    return value;
  }
  void WriteElement(float value, uint64_t row, uint64_t column, std::byte* d) {
    largest_ = std::max(largest_, std::fabs(value));
    Store(value * d_scale_, p_.d.type, d + Place(p_.d, row, column) * BytesOfType(p_.d.type));
  }
  std::vector<float> ReadBias(int32_t batch) {
    const size_t size = BytesOfType(p_.bias_type());
    const std::byte* const from =
        Read(static_cast<const char*>(p_.matmul.bias) +
                 batch * p_.matmul.bias_batch_stride * static_cast<int64_t>(size),
             p_.m() * size, "the bias");
    std::vector<float> bias(p_.m());
    for (size_t i = 0; i < bias.size() && from != nullptr; ++i) {
      bias[i] = Load(from + i * size, p_.bias_type());
    }
    return bias;
  }
  static uint64_t BytesOfOne(Layout layout) {
    layout.batch_count = 1;
    return BytesOf(layout);
  }

  const Problem& p_;
  DeviceMemory& memory_;
  float alpha_ = 1, beta_ = 0, d_scale_ = 1, largest_ = 0;
  bool gone_ = false;
};

}  // namespace

bool Compute(const Problem& problem, DeviceMemory& memory) { return Run(problem, memory).All(); }

}  // namespace trireme::gpusim
