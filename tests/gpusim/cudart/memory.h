// Copies and fills as work of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace trireme::gpusim {

struct Rows {
  void* to = nullptr;
  const void* from = nullptr;
  size_t width = 0, height = 1;  // bytes, rows
  size_t to_pitch = 0, from_pitch = 0;
};

enum class Synchrony { kWaits, kReturns };

// As the programming guide has it ("API synchronization behavior"): from pageable memory the bytes
// are taken at once, into it they are there on return; page-locked memory is read and written when
// the stream gets to it.
cudaError_t Copy(const Rows& rows, cudaMemcpyKind kind, cudaStream_t stream, Synchrony synchrony);
cudaError_t Set(void* to, int value, size_t bytes, cudaStream_t stream);

}  // namespace trireme::gpusim
