// Handles, heuristics and the matmul call itself.
#include <algorithm>
#include <cstring>

#include "runtime/base/strings.h"
#include "tests/gpusim/cublaslt/matmul.h"
#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kHandle = 0x7472692d6c74;
struct Handle {
  uint64_t magic = kHandle;
};
bool IsHandle(cublasLtHandle_t handle) {
  return handle != nullptr && reinterpret_cast<const Handle*>(handle)->magic == kHandle;
}

// A float of each element of D and part of k.
uint64_t SplitWorkspace(const Problem& p, int parts) {
  return p.m() * p.n() * static_cast<uint64_t>(parts) * sizeof(float);
}

// Best first. As the real library's: a small D with a long k is split along k when there is room
// for it, so results depend on the shape, and so on the batch.
std::vector<Algorithm> Algorithms(const Problem& p, const Preference& preference) {
  std::vector<Algorithm> found;
  Algorithm plain{.magic = Algorithm::kMagic};
  std::copy_n(preference.min_alignment, 4, plain.alignment);
  for (const int parts : {4, 2}) {
    Algorithm split = plain;
    split.split_k = parts;
    split.workspace_bytes = SplitWorkspace(p, parts);
    const bool pays = p.m() * p.n() <= 128 * 1024 && p.k() >= 256 * static_cast<uint64_t>(parts);
    if (pays && p.d.batch_count == 1 && split.workspace_bytes <= preference.max_workspace_bytes) {
      found.push_back(split);
    }
  }
  found.push_back(plain);
  return found;
}

cublasStatus_t CheckPlace(const void* pointer, uint64_t bytes, uint32_t alignment,
                          std::string_view name, const DeviceMemory& memory) {
  const auto address = reinterpret_cast<uint64_t>(pointer);
  if (address % alignment != 0) {
    return ExplainLt(
        CUBLAS_STATUS_INVALID_VALUE,
        StrCat(name, " is not aligned to ", alignment, " bytes, as the algorithm was chosen for"));
  }
  if (memory.Find(address, bytes) == nullptr) {
    return ExplainLt(
        CUBLAS_STATUS_INVALID_VALUE,
        StrCat(name, " does not hold ", bytes, " bytes of this device: a GPU would fault"));
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CheckPlaces(const Problem& p, size_t workspace_bytes, const DeviceMemory& memory) {
  const auto& alignment = p.algorithm.alignment;
  struct Place {
    const void* pointer;
    uint64_t bytes;
    uint32_t alignment;
    std::string_view name;
  };
  const bool has_bias = (p.matmul.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
  const Place places[] = {{p.pointer_a, BytesOf(p.a), alignment[0], "A"},
                          {p.pointer_b, BytesOf(p.b), alignment[1], "B"},
                          {p.pointer_c, p.beta_value != 0 ? BytesOf(p.c) : 0, alignment[2], "C"},
                          {p.pointer_d, BytesOf(p.d), alignment[3], "D"},
                          {has_bias ? p.matmul.bias : nullptr,
                           has_bias ? p.m() * BytesOfType(p.bias_type()) : 0, 1, "the bias"},
                          {p.workspace, p.algorithm.workspace_bytes, 16, "the workspace"}};
  if (workspace_bytes < p.algorithm.workspace_bytes) {
    return ExplainLt(CUBLAS_STATUS_INVALID_VALUE,
                     StrCat("the algorithm needs a workspace of ", p.algorithm.workspace_bytes,
                            " bytes and has ", workspace_bytes));
  }
  for (const Place& place : places) {
    if (place.bytes == 0) continue;
    const cublasStatus_t status =
        CheckPlace(place.pointer, place.bytes, place.alignment, place.name, memory);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace trireme::gpusim

using trireme::gpusim::Algorithm;
using trireme::gpusim::BeginLtCall;
using trireme::gpusim::ExplainLt;
using trireme::gpusim::Handle;
using trireme::gpusim::In;
using trireme::gpusim::IsHandle;
using trireme::gpusim::Layout;
using trireme::gpusim::Matmul;
using trireme::gpusim::Preference;
using trireme::gpusim::Problem;
using trireme::gpusim::Runtime;

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  *handle = reinterpret_cast<cublasLtHandle_t>(new Handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (!IsHandle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  auto* const known = reinterpret_cast<Handle*>(handle);
  known->magic = 0;
  delete known;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  *returned = 0;
  if (!IsHandle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem problem{.matmul = In<Matmul>(matmul),
                        .a = In<Layout>(a),
                        .b = In<Layout>(b),
                        .c = In<Layout>(c),
                        .d = In<Layout>(d)};
  const cublasStatus_t status =
      trireme::gpusim::CheckProblem(problem, *Runtime::Get().device().architecture);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  for (const Algorithm& found : trireme::gpusim::Algorithms(problem, In<Preference>(preference))) {
    if (*returned == requested) break;
    cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
    std::memset(&result, 0, sizeof(result));
    In<Algorithm>(&result.algo) = found;
    result.workspaceSize = found.workspace_bytes;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  if (!IsHandle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (const cublasStatus_t status = BeginLtCall(); status != CUBLAS_STATUS_SUCCESS) return status;
  Runtime& runtime = Runtime::Get();
  CUstream_st* const queue = runtime.Resolve(stream);
  if (queue == nullptr || alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  Problem problem{.matmul = In<Matmul>(matmul),
                  .a = In<Layout>(a_layout),
                  .b = In<Layout>(b_layout),
                  .c = In<Layout>(c_layout),
                  .d = In<Layout>(d_layout),
                  .pointer_a = a,
                  .pointer_b = b,
                  .pointer_c = c,
                  .pointer_d = d,
                  .workspace = workspace};
  trireme::gpusim::Device& device = runtime.device(queue->queue->device);
  const cublasStatus_t status = trireme::gpusim::CheckProblem(problem, *device.architecture);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (problem.matmul.pointer_mode == CUBLASLT_POINTER_MODE_HOST) {
    problem.alpha_value = *static_cast<const float*>(alpha);
    problem.beta_value = *static_cast<const float*>(beta);
  } else {
    problem.alpha = alpha;
    problem.beta = beta;
    problem.beta_value = 1;  // not known yet
  }
  if (algorithm != nullptr) {
    problem.algorithm = In<const Algorithm>(algorithm);
    if (problem.algorithm.magic != Algorithm::kMagic) {
      return ExplainLt(CUBLAS_STATUS_INVALID_VALUE, "the algorithm is not one of the heuristics");
    }
  } else {  // the library chooses, with the pointers as they are
    Preference preference;
    preference.max_workspace_bytes = workspace_bytes;
    std::fill_n(preference.min_alignment, 4, 1);
    problem.algorithm = trireme::gpusim::Algorithms(problem, preference).front();
  }
  const cublasStatus_t placed =
      trireme::gpusim::CheckPlaces(problem, workspace_bytes, *device.memory);
  if (placed != CUBLAS_STATUS_SUCCESS) return placed;
  if (device.sticky != cudaSuccess ||
      runtime.faults.Next(trireme::gpusim::FaultPoint::kLaunch, device.index).has_value()) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const cudaError_t error = runtime.Submit(stream, "cublasLtMatmul", [&device, problem] {
    return trireme::gpusim::Compute(problem, *device.memory) ? cudaSuccess
                                                             : cudaErrorIllegalAddress;
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
