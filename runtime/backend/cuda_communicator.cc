#include "runtime/backend/cuda_communicator.h"

#include <chrono>
#include <cstring>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// That a call takes at most where all ranks are there.
constexpr std::chrono::seconds kCallTime{1};

absl::Status NcclStatus(ncclResult_t result, std::string_view what) {
  if (result == ncclSuccess) return absl::OkStatus();
  // Of the process, and only for people: it may belong to another thread's error.
  const char* const more = ncclGetLastError(nullptr);
  return absl::InternalError(StrCat(what, ": NCCL: ", ncclGetErrorString(result),
                                    more != nullptr && *more != 0 ? StrCat(" (", more, ")") : ""));
}

absl::Status Aborted() { return absl::UnavailableError("the exchange between ranks was given up"); }

}  // namespace

absl::StatusOr<std::string> NewRankGroup() {
  ncclUniqueId id;
  TRIREME_RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id), "making a group of ranks"));
  return std::string(id.internal, sizeof(id.internal));
}

absl::StatusOr<std::vector<std::shared_ptr<CudaCommunicator>>> JoinRanks(const std::string& group,
                                                                         int num_ranks,
                                                                         int first_rank,
                                                                         int num_devices) {
  constexpr const char* kWhat = "joining the ranks";
  ncclUniqueId id;
  if (group.size() != sizeof(id.internal)) {
    return absl::InvalidArgumentError("joining the ranks: this is no group of ranks");
  }
  std::memcpy(id.internal, group.data(), sizeof(id.internal));
  std::vector<ncclComm_t> comms(static_cast<size_t>(num_devices));
  for (int i = 0; i < num_devices; ++i) {  // one that fails inside the group leaves others waiting
    TRIREME_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(i), kWhat));
  }
  // As a group: a single thread joins them all.
  TRIREME_RETURN_IF_ERROR(NcclStatus(ncclGroupStart(), kWhat));
  absl::Status status;
  for (int i = 0; i < num_devices; ++i) {
    status.Update(CudaStatus(cudaSetDevice(i), kWhat));
    if (!status.ok()) break;
    status.Update(NcclStatus(
        ncclCommInitRank(&comms[static_cast<size_t>(i)], num_ranks, id, first_rank + i), kWhat));
  }
  status.Update(NcclStatus(ncclGroupEnd(), kWhat));
  std::vector<std::shared_ptr<CudaCommunicator>> communicators;
  for (int i = 0; i < num_devices; ++i) {  // on failure, too: they are destroyed
    communicators.push_back(std::make_shared<CudaCommunicator>(first_rank + i, num_ranks,
                                                               comms[static_cast<size_t>(i)]));
  }
  if (!status.ok()) return status;
  if (num_devices == num_ranks) {
    TRIREME_ASSIGN_OR_RETURN(const std::shared_ptr<CudaPeers> peers,
                             CudaPeers::Connect(num_devices));
    for (const auto& communicator : communicators) communicator->set_peers(peers);
  }
  return communicators;
}

CudaCommunicator::~CudaCommunicator() {
  if (aborter_.joinable()) aborter_.join();
  if (comm_ != nullptr) ncclCommDestroy(comm_);
}

absl::Status CudaCommunicator::Call(const char* what,
                                    absl::FunctionRef<ncclResult_t(ncclComm_t)> call) {
  std::lock_guard lock(mu_);
  return aborted_ ? Aborted() : NcclStatus(call(comm_), what);
}

absl::Status CudaCommunicator::Sum(float* x, size_t count, cudaStream_t stream) {
  return Call("summing over the ranks", [&](ncclComm_t comm) {
    return ncclAllReduce(x, x, count, ncclFloat32, ncclSum, comm, stream);
  });
}

absl::Status CudaCommunicator::AllGather(const void* from, size_t bytes, void* to,
                                         cudaStream_t stream) {
  return Call("gathering from the ranks", [&](ncclComm_t comm) {
    return ncclAllGather(from, to, bytes, ncclUint8, comm, stream);
  });
}

absl::Status CudaCommunicator::Gather(const void* from, size_t bytes, void* to,
                                      cudaStream_t stream) {
  return Call("gathering on the first rank", [&](ncclComm_t comm) {
    // Outside of a group a send would wait for its receiver, which comes behind it.
    ncclResult_t result = ncclGroupStart();
    if (result != ncclSuccess) return result;
    const auto also = [&](ncclResult_t next) {
      if (result == ncclSuccess) result = next;
    };
    also(ncclSend(from, bytes, ncclUint8, 0, comm, stream));
    for (int peer = 0; rank_ == 0 && peer < num_ranks_; ++peer) {
      also(ncclRecv(static_cast<uint8_t*>(to) + static_cast<size_t>(peer) * bytes, bytes, ncclUint8,
                    peer, comm, stream));
    }
    also(ncclGroupEnd());
    return result;
  });
}

absl::Status CudaCommunicator::Health() {
  return Call("exchanging with the ranks", [](ncclComm_t comm) {
    ncclResult_t error = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &error);
    return asked == ncclSuccess ? error : asked;
  });
}

void CudaCommunicator::Abort() {
  if (aborted_.exchange(true)) return;
  aborter_ = std::thread([this] {
    // A call that takes longer waits for a peer that does not come: aborting ends it.
    const bool held = mu_.try_lock_for(kCallTime);
    const ncclComm_t comm = comm_.exchange(nullptr);
    if (held) mu_.unlock();
    ncclCommAbort(comm);
  });
}

}  // namespace trireme
