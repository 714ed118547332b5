// cuTensorMapEncodeTiled of the driver API, the only driver call that Hopper's kernels need, and
// how the runtime API finds it.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <string_view>

#include "tests/gpusim/cudart/runtime.h"
#include "tests/gpusim/vm/tensor_map.h"

static_assert(CU_TENSOR_MAP_SWIZZLE_128B ==
              static_cast<int>(trireme::gpusim::TensorSwizzle::k128B));
static_assert(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ==
              static_cast<int>(trireme::gpusim::TensorType::kBf16));
static_assert(sizeof(trireme::gpusim::TensorMap) <= sizeof(CUtensorMap));

extern "C" CUresult CUDAAPI cuTensorMapEncodeTiled(
    CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
    const cuuint64_t* global_dim, const cuuint64_t* global_strides, const cuuint32_t* box_dim,
    const cuuint32_t* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
    CUtensorMapL2promotion l2_promotion, CUtensorMapFloatOOBfill oob_fill) {
  if (map == nullptr || reinterpret_cast<uintptr_t>(map) % 64 != 0) return CUDA_ERROR_INVALID_VALUE;
  trireme::gpusim::TiledTensor tensor;
  tensor.data_type = type;
  tensor.interleave = interleave;
  tensor.swizzle = swizzle;
  tensor.l2_promotion = l2_promotion;
  tensor.oob_fill = oob_fill;
  tensor.rank = rank;
  tensor.global_address = reinterpret_cast<uintptr_t>(address);
  static_assert(sizeof(cuuint64_t) == sizeof(uint64_t));
  tensor.global_dim = global_dim;
  tensor.global_strides = global_strides;
  tensor.box_dim = box_dim;
  tensor.element_strides = element_strides;
  const auto encoded = trireme::gpusim::EncodeTiled(tensor);
  if (!encoded.ok()) {
    return absl::IsUnimplemented(encoded.status()) ? CUDA_ERROR_NOT_SUPPORTED
                                                   : CUDA_ERROR_INVALID_VALUE;
  }
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, &*encoded, sizeof(*encoded));
  return CUDA_SUCCESS;
}

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function,
                                                        unsigned int cuda_version,
                                                        unsigned long long /*flags*/,
                                                        cudaDriverEntryPointQueryResult* result) {
  constexpr unsigned kIntroduced = 12000;  // CUDA 12.0
  if (symbol == nullptr || function == nullptr || cuda_version > CUDA_VERSION) {
    return trireme::gpusim::Record(cudaErrorInvalidValue);
  }
  const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled";
  const bool found = known && cuda_version >= kIntroduced;
  *function = found ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  if (result != nullptr) {
    *result = found   ? cudaDriverEntryPointSuccess
              : known ? cudaDriverEntryPointVersionNotSufficent
                      : cudaDriverEntryPointSymbolNotFound;
  }
  return cudaSuccess;
}
