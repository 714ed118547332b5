// Errors by name and text, and the last one of a thread.
#include <string_view>
#include <utility>

#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

struct Named {
  cudaError_t error;
  const char *name, *text;
};
#define TRIREME_ERROR(name, text) \
  { name, #name, text }
constexpr Named kErrors[] = {
    TRIREME_ERROR(cudaSuccess, "no error"),
    TRIREME_ERROR(cudaErrorInvalidValue, "invalid argument"),
    TRIREME_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    TRIREME_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    TRIREME_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    TRIREME_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    TRIREME_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    TRIREME_ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
    TRIREME_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    TRIREME_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    TRIREME_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    TRIREME_ERROR(cudaErrorNoKernelImageForDevice,
                  "no kernel image is available for execution on the device"),
    TRIREME_ERROR(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    TRIREME_ERROR(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    TRIREME_ERROR(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    TRIREME_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    TRIREME_ERROR(cudaErrorNotReady, "device not ready"),
    TRIREME_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    TRIREME_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    TRIREME_ERROR(cudaErrorHostMemoryAlreadyRegistered,
                  "part or all of the requested memory range is already mapped"),
    TRIREME_ERROR(cudaErrorHostMemoryNotRegistered,
                  "pointer does not correspond to a registered memory region"),
    TRIREME_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    TRIREME_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    TRIREME_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    TRIREME_ERROR(cudaErrorNotSupported, "operation not supported"),
    TRIREME_ERROR(cudaErrorStreamCaptureUnsupported,
                  "operation not permitted when stream is capturing"),
    TRIREME_ERROR(cudaErrorStreamCaptureInvalidated,
                  "operation failed due to a previous error during capture"),
    TRIREME_ERROR(cudaErrorStreamCaptureUnmatched,
                  "capture was not ended in the same stream as it began"),
    TRIREME_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    TRIREME_ERROR(cudaErrorStreamCaptureImplicit,
                  "operation would make the legacy stream depend on a capturing blocking stream"),
    TRIREME_ERROR(cudaErrorCapturedEvent,
                  "operation not permitted on an event last recorded in a capturing stream"),
    TRIREME_ERROR(cudaErrorGraphExecUpdateFailure,
                  "the graph update was not performed because it included changes which violated "
                  "constraints specific to instantiated graph update"),
    TRIREME_ERROR(cudaErrorInvalidClusterSize, "cluster misconfiguration"),
    TRIREME_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef TRIREME_ERROR

const Named* Find(cudaError_t error) {
  for (const Named& known : kErrors) {
    if (known.error == error) return &known;
  }
  return nullptr;
}

}  // namespace
}  // namespace trireme::gpusim

using trireme::gpusim::LastError;
using trireme::gpusim::Sticky;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  const auto* known = trireme::gpusim::Find(error);
  return known != nullptr ? known->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const auto* known = trireme::gpusim::Find(error);
  return known != nullptr ? known->text : "unrecognized error code";
}

cudaError_t cudaPeekAtLastError() { return Sticky() != cudaSuccess ? Sticky() : LastError(); }

// A sticky error stays.
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  LastError() = cudaSuccess;
  return error;
}

}  // extern "C"
