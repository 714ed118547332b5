#include "runtime/backend/cuda_peers.h"

#include <cuda_runtime_api.h>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme {

absl::StatusOr<std::shared_ptr<CudaPeers>> CudaPeers::Connect(int num_devices) {
  constexpr const char* kWhat = "connecting the devices";
  if (num_devices > cuda::kMaxPeers) return nullptr;
  for (int from = 0; from < num_devices; ++from) {
    for (int to = 0; to < num_devices; ++to) {
      int can = from == to ? 1 : 0;
      if (can == 0) {
        TRIREME_RETURN_IF_ERROR(CudaStatus(cudaDeviceCanAccessPeer(&can, from, to), kWhat));
      }
      if (can == 0) return nullptr;
    }
  }
  for (int from = 0; from < num_devices; ++from) {
    TRIREME_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(from), kWhat));
    for (int to = 0; to < num_devices; ++to) {
      if (from == to) continue;
      const cudaError_t error = cudaDeviceEnablePeerAccess(to, 0);
      if (error == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();  // not sticky: the next call must not report it again
      } else {
        TRIREME_RETURN_IF_ERROR(CudaStatus(error, kWhat));
      }
    }
  }
  return std::shared_ptr<CudaPeers>(new CudaPeers(num_devices));
}

void CudaPeers::Add(int rank, Buffer& workspace, Buffer& shares, Buffer& flags) {
  std::lock_guard lock(mu_);
  memory_[static_cast<size_t>(rank)] = {static_cast<uint8_t*>(workspace.data()), shares.data(),
                                        static_cast<uint32_t*>(flags.data())};
}

cuda::Peers CudaPeers::Group(int rank, const void* in, const uint32_t* abort) const {
  std::lock_guard lock(mu_);
  cuda::Peers peers;
  peers.rank = rank;
  peers.world = static_cast<int>(memory_.size());
  peers.abort = abort;
  const auto offset =
      static_cast<const uint8_t*>(in) - memory_[static_cast<size_t>(rank)].workspace;
  for (size_t i = 0; i < memory_.size(); ++i) {
    TRIREME_CHECK(memory_[i].workspace != nullptr);
    peers.in[i] = memory_[i].workspace + offset;
    peers.shares[i] = memory_[i].shares;
    peers.flags[i] = memory_[i].flags;
  }
  return peers;
}

}  // namespace trireme
