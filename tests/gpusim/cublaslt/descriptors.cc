#include "tests/gpusim/cublaslt/descriptors.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

struct Attribute {
  int id;
  size_t offset, size;
};
#define TRIREME_ATTRIBUTE(id, type, member) \
  { id, offsetof(type, member), sizeof(type::member) }

constexpr Attribute kLayout[] = {
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_TYPE, Layout, type),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_ORDER, Layout, order),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_ROWS, Layout, rows),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_COLS, Layout, cols),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_LD, Layout, ld),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, Layout, batch_count),
    TRIREME_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, Layout, batch_stride),
};
constexpr Attribute kMatmul[] = {
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, Matmul, compute_type),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_SCALE_TYPE, Matmul, scale_type),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_POINTER_MODE, Matmul, pointer_mode),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSA, Matmul, transpose_a),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSB, Matmul, transpose_b),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSC, Matmul, transpose_c),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE, Matmul, epilogue),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Matmul, bias),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, Matmul, bias_batch_stride),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, Matmul, bias_type),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, Matmul, sm_count_target),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, Matmul, a_scale),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, Matmul, b_scale),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, Matmul, c_scale),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, Matmul, d_scale),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, Matmul, d_largest),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_FAST_ACCUM, Matmul, fast_accumulation),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, Matmul, a_scale_mode),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, Matmul, b_scale_mode),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_SCALE_MODE, Matmul, d_scale_mode),
};
constexpr Attribute kPreference[] = {
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Preference, max_workspace_bytes),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_SEARCH_MODE, Preference, search_mode),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, Preference, reduction_schemes),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Preference, min_alignment[0]),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Preference, min_alignment[1]),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Preference, min_alignment[2]),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Preference, min_alignment[3]),
    TRIREME_ATTRIBUTE(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, Preference, max_waves),
};

// Null, said on stderr: it is not known.
template <size_t n>
const Attribute* Find(const Attribute (&attributes)[n], int id, std::string_view of) {
  for (const Attribute& attribute : attributes) {
    if (attribute.id == id) return &attribute;
  }
  ExplainLt(CUBLAS_STATUS_INVALID_VALUE, StrCat(of, ": attribute ", id, " is not simulated"));
  return nullptr;
}

template <size_t n>
cublasStatus_t Set(void* object, const Attribute (&attributes)[n], int id, const void* from,
                   size_t bytes, std::string_view of) {
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  const Attribute* const attribute = object != nullptr ? Find(attributes, id, of) : nullptr;
  if (attribute == nullptr || from == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes != attribute->size) {
    return ExplainLt(CUBLAS_STATUS_INVALID_VALUE, StrCat(of, ": attribute ", id, " has ",
                                                         attribute->size, " bytes, not ", bytes));
  }
  std::memcpy(static_cast<char*>(object) + attribute->offset, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <size_t n>
cublasStatus_t Get(const void* object, const Attribute (&attributes)[n], int id, void* to,
                   size_t bytes, size_t* written, std::string_view of) {
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  const Attribute* const attribute = object != nullptr ? Find(attributes, id, of) : nullptr;
  if (attribute == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (written != nullptr) *written = attribute->size;
  if (bytes == 0 && written != nullptr) return CUBLAS_STATUS_SUCCESS;  // asks for the size
  if (to == nullptr || bytes != attribute->size) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, static_cast<const char*>(object) + attribute->offset, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Opaque, typename T>
cublasStatus_t Init(Opaque* opaque, size_t size, T value) {
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  if (opaque == nullptr || size < sizeof(Opaque)) return CUBLAS_STATUS_ALLOC_FAILED;
  std::memset(opaque, 0, sizeof(*opaque));
  new (opaque) T(value);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Opaque, typename T>
cublasStatus_t Create(Opaque** opaque, T value) {
  auto made = std::make_unique<Opaque>();
  const cublasStatus_t status = Init(made.get(), sizeof(Opaque), value);
  if (status == CUBLAS_STATUS_SUCCESS) *opaque = made.release();
  return status;
}

template <typename Opaque>
cublasStatus_t Destroy(Opaque* opaque) {
  delete opaque;
  return CUBLAS_STATUS_SUCCESS;
}

Matmul NewMatmul(cublasComputeType_t compute, cudaDataType_t scale) {
  Matmul matmul;
  matmul.compute_type = compute;
  matmul.scale_type = scale;
  return matmul;
}

Layout NewLayout(cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
  Layout layout;
  layout.type = type;
  layout.rows = rows;
  layout.cols = cols;
  layout.ld = ld;
  return layout;
}

constexpr std::string_view kLayoutName = "matrix layout", kMatmulName = "matmul descriptor",
                           kPreferenceName = "matmul preference";

}  // namespace

cublasStatus_t BeginLtCall() {
  const bool fails =
      Runtime::Get().faults.Next(FaultPoint::kCublasLt, Runtime::current_device()).has_value();
  return fails ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t ExplainLt(cublasStatus_t status, const std::string& what) {
  std::fprintf(stderr, "gpusim: cublasLt: %s: %s\n", cublasLtGetStatusName(status), what.c_str());
  return status;
}

}  // namespace trireme::gpusim

using trireme::gpusim::Create;
using trireme::gpusim::Destroy;
using trireme::gpusim::Get;
using trireme::gpusim::Init;
using trireme::gpusim::kLayout;
using trireme::gpusim::kLayoutName;
using trireme::gpusim::kMatmul;
using trireme::gpusim::kMatmulName;
using trireme::gpusim::kPreference;
using trireme::gpusim::kPreferenceName;
using trireme::gpusim::NewLayout;
using trireme::gpusim::NewMatmul;
using trireme::gpusim::Preference;
using trireme::gpusim::Set;

extern "C" {

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  return Init(layout, size, NewLayout(type, rows, cols, ld));
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  return Create(layout, NewLayout(type, rows, cols, ld));
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return Destroy(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* from, size_t bytes) {
  return Set(layout, kLayout, attribute, from, bytes, kLayoutName);
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* to,
                                                size_t bytes, size_t* written) {
  return Get(layout, kLayout, attribute, to, bytes, written, kLayoutName);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t matmul, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  return Init(matmul, size, NewMatmul(compute, scale));
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* matmul, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return Create(matmul, NewMatmul(compute, scale));
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul) { return Destroy(matmul); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmul,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* from, size_t bytes) {
  return Set(matmul, kMatmul, attribute, from, bytes, kMatmulName);
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t matmul,
                                              cublasLtMatmulDescAttributes_t attribute, void* to,
                                              size_t bytes, size_t* written) {
  return Get(matmul, kMatmul, attribute, to, bytes, written, kMatmulName);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size) {
  return Init(preference, size, Preference());
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return Create(preference, Preference());
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return Destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* from, size_t bytes) {
  return Set(preference, kPreference, attribute, from, bytes, kPreferenceName);
}
cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    void* to, size_t bytes, size_t* written) {
  return Get(preference, kPreference, attribute, to, bytes, written, kPreferenceName);
}

}  // extern "C"
