#include <algorithm>

#include "runtime/base/strings.h"
#include "tests/gpusim/cublaslt/matmul.h"

namespace trireme::gpusim {
namespace {

bool IsFp8(int32_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

// Types of A, B, C, D that belong together, with float sums.
bool TypesFit(const Problem& p) {
  const int32_t a = p.a.type, b = p.b.type, c = p.c.type, d = p.d.type;
  if (IsFp8(a) && IsFp8(b)) {
    if (a == CUDA_R_8F_E5M2 && b == CUDA_R_8F_E5M2) return false;
    if (IsFp8(d)) {
      const bool e5m2_in = a == CUDA_R_8F_E5M2 || b == CUDA_R_8F_E5M2;
      return (c == CUDA_R_16BF || c == CUDA_R_16F) && (d == CUDA_R_8F_E4M3 || e5m2_in);
    }
    return c == d && (d == CUDA_R_16BF || d == CUDA_R_16F || d == CUDA_R_32F);
  }
  if (a != b || c != d) return false;
  if (a == CUDA_R_16BF || a == CUDA_R_16F) return d == a || d == CUDA_R_32F;
  return a == CUDA_R_32F && d == CUDA_R_32F;
}

bool IsBiasType(const Problem& p) {
  if (!IsFp8(p.a.type)) return p.bias_type() == p.d.type;
  if (IsFp8(p.d.type)) return p.bias_type() == p.c.type;
  return p.bias_type() == (p.d.type == CUDA_R_32F ? CUDA_R_16BF : p.d.type);
}

// Empty: in order.
std::string WrongLayout(const Layout& layout, std::string_view name) {
  if (layout.order != CUBLASLT_ORDER_COL && layout.order != CUBLASLT_ORDER_ROW) {
    return StrCat(name, " is neither in column nor in row order");
  }
  const uint64_t line = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.cols;
  if (layout.rows == 0 || layout.cols == 0) return StrCat(name, " is empty");
  if (layout.ld < 0 || static_cast<uint64_t>(layout.ld) < line) {
    return StrCat(name, " has lines of ", line, " elements and a leading dimension of ", layout.ld);
  }
  return {};
}

std::string WrongShapes(const Problem& p) {
  for (const auto& [layout, name] : {std::pair<const Layout*, std::string_view>{&p.a, "A"},
                                     {&p.b, "B"},
                                     {&p.c, "C"},
                                     {&p.d, "D"}}) {
    if (std::string wrong = WrongLayout(*layout, name); !wrong.empty()) return wrong;
    if (layout->batch_count != p.d.batch_count || layout->batch_count < 1) {
      return StrCat(name, " is a batch of ", layout->batch_count, ", D one of ", p.d.batch_count);
    }
  }
  const bool a_turned = p.matmul.transpose_a != CUBLAS_OP_N,
             b_turned = p.matmul.transpose_b != CUBLAS_OP_N;
  const uint64_t k_of_b = b_turned ? p.b.cols : p.b.rows;
  if ((a_turned ? p.a.cols : p.a.rows) != p.m() || (b_turned ? p.b.rows : p.b.cols) != p.n() ||
      k_of_b != p.k() || p.c.rows != p.m() || p.c.cols != p.n()) {
    return StrCat("op(A) ", a_turned ? p.a.cols : p.a.rows, " x ", p.k(), ", op(B) ", k_of_b, " x ",
                  b_turned ? p.b.rows : p.b.cols, ", C ", p.c.rows, " x ", p.c.cols, ", D ", p.m(),
                  " x ", p.n(), " do not fit each other");
  }
  return {};
}

// What of an 8-bit problem the tensor cores of an architecture take.
std::string WrongFp8(const Problem& p, const Architecture& architecture) {
  if (architecture.major * 10 + architecture.minor < 89) return "8-bit floats need sm_89";
  const bool column_major = p.a.order == CUBLASLT_ORDER_COL && p.b.order == CUBLASLT_ORDER_COL &&
                            p.d.order == CUBLASLT_ORDER_COL;
  const bool tn = p.matmul.transpose_a == CUBLAS_OP_T && p.matmul.transpose_b == CUBLAS_OP_N;
  if (architecture.major < 10 && !(column_major && tn)) {
    return "8-bit floats need A transposed and B not, in column order";
  }
  if (p.m() % 16 != 0 || p.k() % 16 != 0 || p.a.ld % 16 != 0 || p.b.ld % 16 != 0) {
    return "8-bit floats need m, k and leading dimensions that are multiples of 16";
  }
  if (p.matmul.a_scale_mode != CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F ||
      p.matmul.b_scale_mode != CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F ||
      p.matmul.d_scale_mode != CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F) {
    return "scales of blocks are not simulated";
  }
  return {};
}

constexpr uint32_t kEpilogues[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU,
                                   CUBLASLT_EPILOGUE_BIAS,    CUBLASLT_EPILOGUE_RELU_BIAS,
                                   CUBLASLT_EPILOGUE_GELU,    CUBLASLT_EPILOGUE_GELU_BIAS};

}  // namespace

int32_t Problem::bias_type() const {
  if (matmul.bias_type >= 0) return matmul.bias_type;
  if (!IsFp8(a.type)) return d.type;
  return IsFp8(d.type) ? c.type : d.type == CUDA_R_32F ? CUDA_R_16BF : d.type;
}

size_t BytesOfType(int32_t type) {
  switch (type) {
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16BF:
    case CUDA_R_16F:
      return 2;
    case CUDA_R_8F_E4M3:
    case CUDA_R_8F_E5M2:
      return 1;
    default:
      return 0;
  }
}

uint64_t BytesOf(const Layout& layout) {
  const bool columns = layout.order == CUBLASLT_ORDER_COL;
  const uint64_t lines = columns ? layout.cols : layout.rows,
                 line = columns ? layout.rows : layout.cols;
  const uint64_t one = (lines - 1) * static_cast<uint64_t>(layout.ld) + line;
  const uint64_t before = static_cast<uint64_t>(layout.batch_count - 1) *
                          static_cast<uint64_t>(std::max<int64_t>(layout.batch_stride, 0));
  return (before + one) * BytesOfType(layout.type);
}

cublasStatus_t CheckProblem(const Problem& p, const Architecture& architecture) {
  const auto not_supported = [](const std::string& what) {
    return ExplainLt(CUBLAS_STATUS_NOT_SUPPORTED, what);
  };
  if (const std::string wrong = WrongShapes(p); !wrong.empty()) {
    return ExplainLt(CUBLAS_STATUS_INVALID_VALUE, wrong);
  }
  const bool tf32 = p.matmul.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32;
  if ((p.matmul.compute_type != CUBLAS_COMPUTE_32F && !tf32) || p.matmul.scale_type != CUDA_R_32F) {
    return not_supported("only float sums and float alpha and beta are simulated");
  }
  if (!TypesFit(p)) {
    return not_supported(StrCat("no kernel for A, B, C, D of types ", p.a.type, ", ", p.b.type,
                                ", ", p.c.type, ", ", p.d.type));
  }
  if (p.matmul.transpose_c != CUBLAS_OP_N) return not_supported("C cannot be transposed");
  if (std::find(std::begin(kEpilogues), std::end(kEpilogues), p.matmul.epilogue) ==
      std::end(kEpilogues)) {
    return not_supported(StrCat("epilogue ", p.matmul.epilogue, " is not simulated"));
  }
  const bool has_bias = (p.matmul.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
  if (has_bias && p.d.order != CUBLASLT_ORDER_COL) {
    return not_supported("a bias is one of rows, and needs D in column order");
  }
  if (has_bias && !IsBiasType(p)) return not_supported("the bias is not of the type that D needs");
  if (p.matmul.pointer_mode != CUBLASLT_POINTER_MODE_HOST &&
      p.matmul.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE) {
    return not_supported("vectors of alpha are not simulated");
  }
  if (IsFp8(p.a.type)) {
    if (const std::string wrong = WrongFp8(p, architecture); !wrong.empty()) {
      return not_supported(wrong);
    }
  } else if (p.matmul.a_scale != nullptr || p.matmul.b_scale != nullptr) {
    return ExplainLt(CUBLAS_STATUS_INVALID_VALUE, "scales belong to 8-bit floats");
  }
  if ((p.matmul.d_scale != nullptr || p.matmul.d_largest != nullptr) && !IsFp8(p.d.type)) {
    return ExplainLt(CUBLAS_STATUS_INVALID_VALUE, "D's scale and maximum belong to 8-bit floats");
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace trireme::gpusim
