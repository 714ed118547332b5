#include "runtime/backend/cuda_cublaslt.h"

#include <cublasLt.h>

#include <utility>
#include <vector>

#include "runtime/backend/cuda_backend.h"
#include "runtime/backend/cuda_memory.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper
constexpr uint32_t kAlignment = 16;           // of operands
// Kept plans. A step's products have some five shapes for each number of tokens, of which decode
// has 28 (CUDA graphs) and prefill mostly one.
constexpr size_t kPlans = 512;

absl::Status LtStatus(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = StrCat(what, ": cuBLASLt: ", cublasLtGetStatusName(status));
  return status == CUBLAS_STATUS_ALLOC_FAILED ? absl::ResourceExhaustedError(message)
                                              : absl::InternalError(message);
}

constexpr std::string_view kChoosing = "choosing a matrix product";

// Everything that cuBLASLt's choice depends on.
struct Shape {
  int64_t rows = 0, cols = 0, num_tokens = 0, y_stride = 0;
  DType type = DType::kBF16;
  bool f32_out = false, has_bias = false, y_aligned = false;

  bool operator==(const Shape&) const = default;
};

size_t SlotOf(const Shape& shape) {
  // Multiplied by odd numbers and folded: shapes of one model differ in few bits.
  uint64_t hash = 0;
  for (const int64_t part : {shape.rows, shape.cols, shape.num_tokens, shape.y_stride,
                             int64_t{shape.f32_out} * 4 + shape.has_bias * 2 + shape.y_aligned}) {
    hash = (hash ^ static_cast<uint64_t>(part)) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash % kPlans;
}

cudaDataType_t LtType(DType type) {
  return type == DType::kF32 ? CUDA_R_32F : type == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
}

// A product as cuBLASLt is asked for it. It counts in columns: our y [tokens, rows] is its D, rows
// x tokens, of op(W) X with W [cols, rows] transposed.
struct Plan {
  Shape shape;  // rows 0: none yet
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t w, x, y;
  cublasLtMatmulAlgo_t algorithm;
};

template <typename T>
absl::Status Set(cublasLtMatmulDescOpaque_t* product, cublasLtMatmulDescAttributes_t attribute,
                 T value) {
  return LtStatus(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)),
                  kChoosing);
}
template <typename T>
absl::Status Set(cublasLtMatmulPreferenceOpaque_t* preference,
                 cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  return LtStatus(
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
      kChoosing);
}

absl::Status Describe(const Shape& shape, Plan* plan) {
  TRIREME_RETURN_IF_ERROR(
      LtStatus(cublasLtMatmulDescInit(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), kChoosing));
  TRIREME_RETURN_IF_ERROR(
      Set(&plan->product, CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(CUBLAS_OP_T)));
  if (shape.has_bias) {
    TRIREME_RETURN_IF_ERROR(Set(&plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS)));
  }
  const auto describe = [](cublasLtMatrixLayoutOpaque_t* layout, DType type, int64_t rows,
                           int64_t cols, int64_t stride) {
    return LtStatus(cublasLtMatrixLayoutInit(layout, LtType(type), static_cast<uint64_t>(rows),
                                             static_cast<uint64_t>(cols), stride),
                    kChoosing);
  };
  TRIREME_RETURN_IF_ERROR(describe(&plan->w, shape.type, shape.cols, shape.rows, shape.cols));
  TRIREME_RETURN_IF_ERROR(describe(&plan->x, shape.type, shape.cols, shape.num_tokens, shape.cols));
  return describe(&plan->y, shape.f32_out ? DType::kF32 : shape.type, shape.rows, shape.num_tokens,
                  shape.y_stride);
}

absl::Status Choose(cublasLtHandle_t handle, Plan* plan) {
  cublasLtMatmulPreferenceOpaque_t preference;
  TRIREME_RETURN_IF_ERROR(LtStatus(cublasLtMatmulPreferenceInit(&preference), kChoosing));
  TRIREME_RETURN_IF_ERROR(
      Set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}));
  // Where K is cut, the parts are added up in F32.
  TRIREME_RETURN_IF_ERROR(Set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                              static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)));
  const uint32_t of_element = plan->shape.f32_out ? 4 : 2;
  const uint32_t of_y = plan->shape.y_aligned ? kAlignment : of_element;
  for (const auto& [attribute, bytes] :
       {std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_y},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_y}}) {
    TRIREME_RETURN_IF_ERROR(Set(&preference, attribute, bytes));
  }
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  TRIREME_RETURN_IF_ERROR(
      LtStatus(cublasLtMatmulAlgoGetHeuristic(handle, &plan->product, &plan->w, &plan->x, &plan->y,
                                              &plan->y, &preference, 1, &result, &found),
               kChoosing));
  if (found == 0) return LtStatus(CUBLAS_STATUS_NOT_SUPPORTED, kChoosing);
  plan->algorithm = result.algo;
  return absl::OkStatus();
}

class LinkedCublasLt final : public CublasLt {
 public:
  LinkedCublasLt() : plans_(kPlans) {}
  ~LinkedCublasLt() override {
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  absl::Status Init() {
    TRIREME_RETURN_IF_ERROR(LtStatus(cublasLtCreate(&handle_), "starting cuBLASLt"));
    TRIREME_ASSIGN_OR_RETURN(workspace_, AllocateDevice(kWorkspaceBytes));
    return absl::OkStatus();
  }

  absl::Status MatMul(const cuda::PackedMatrix& w, const void* bias, const void* x,
                      int64_t num_tokens, bool f32_out, void* y, int64_t y_stride,
                      cudaStream_t stream) override {
    if (num_tokens == 0) return absl::OkStatus();
    const Shape shape = {.rows = w.rows,
                         .cols = w.cols,
                         .num_tokens = num_tokens,
                         .y_stride = y_stride,
                         .type = w.type,
                         .f32_out = f32_out,
                         .has_bias = bias != nullptr,
                         .y_aligned = reinterpret_cast<uintptr_t>(y) % kAlignment == 0};
    TRIREME_ASSIGN_OR_RETURN(Plan* const plan, PlanFor(shape));
    // The call copies it: the next weight of this shape has another.
    if (bias != nullptr) {
      TRIREME_RETURN_IF_ERROR(Set(&plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    }
    constexpr float kOne = 1, kZero = 0;
    return LtStatus(cublasLtMatmul(handle_, &plan->product, &kOne, w.data, &plan->w, x, &plan->x,
                                   &kZero, y, &plan->y, y, &plan->y, &plan->algorithm,
                                   workspace_->data(), kWorkspaceBytes, stream),
                    "matrix product");
  }

 private:
  // A shape has one place; another one that wants it takes it over.
  absl::StatusOr<Plan*> PlanFor(const Shape& shape) {
    Plan& plan = plans_[SlotOf(shape)];
    if (plan.shape == shape) return &plan;
    plan.shape = shape;
    absl::Status status = Describe(shape, &plan);
    if (status.ok()) status = Choose(handle_, &plan);
    if (status.ok()) return &plan;
    plan.shape = {};
    return status;
  }

  cublasLtHandle_t handle_ = nullptr;
  std::unique_ptr<Buffer> workspace_;
  std::vector<Plan> plans_;  // [kPlans]
};

}  // namespace

bool HasCublasLt() { return true; }

absl::StatusOr<std::unique_ptr<CublasLt>> MakeCublasLt() {
  auto cublaslt = std::make_unique<LinkedCublasLt>();
  TRIREME_RETURN_IF_ERROR(cublaslt->Init());
  return cublaslt;
}

}  // namespace trireme
