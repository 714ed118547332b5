// The calls of nccl.h that a transformer engine makes. What is not here is missing at link time.
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/runtime.h"
#include "tests/gpusim/nccl/communicator.h"
#include "tests/gpusim/nccl/operation.h"
#include "tests/gpusim/nccl/reduce.h"

namespace trireme::gpusim {
namespace {

constexpr useconds_t kJoinPollMicroseconds = 200;

// What this thread has called since ncclGroupStart.
struct Group {
  struct Pending {
    std::shared_ptr<Communicator> comm;
    cudaStream_t stream;
    std::vector<Call> calls;
  };
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  std::vector<std::shared_ptr<Communicator>> joining;
  std::vector<Pending> pending;
};
thread_local Group group;

ncclResult_t FromStatus(const absl::Status& status) {
  return ExplainNccl(absl::IsInvalidArgument(status) ? ncclInvalidUsage : ncclSystemError,
                     std::string(FromAbsl(status.message())));
}

// Counts a call, and fails it on demand.
ncclResult_t BeginCall(int device) {
  if (!Runtime::Get().faults.Next(FaultPoint::kNccl, device).has_value()) return ncclSuccess;
  return ExplainNccl(ncclSystemError, "the call fails on demand");
}
ncclResult_t BeginCall() { return BeginCall(Runtime::current_device()); }

// The device of a communicator is the current one as long as this lives.
class OnDevice {
 public:
  explicit OnDevice(int device) : before_(std::exchange(Runtime::current_device(), device)) {}
  ~OnDevice() { Runtime::current_device() = before_; }

 private:
  const int before_;
};

ncclResult_t Enqueue(const Group::Pending& pending) {
  Runtime& runtime = Runtime::Get();
  const OnDevice current(pending.comm->device);
  CUstream_st* const stream = runtime.Resolve(pending.stream);
  if (stream == nullptr || stream->queue->device != pending.comm->device) {
    return ExplainNccl(ncclInvalidArgument, "the stream is not one of the communicator's device");
  }
  auto operation =
      std::make_shared<Operation>(pending.comm, pending.calls, stream->capture != nullptr);
  const cudaError_t error = runtime.Submit(pending.stream, NameOf(pending.calls[0]),
                                           [operation] { return operation->Run(); });
  return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t EndGroup() {
  Group ended = std::exchange(group, {});
  for (const auto& comm : ended.joining) {
    if (ended.error != ncclSuccess) break;
    while (!comm->segment->Complete()) usleep(kJoinPollMicroseconds);
    if (comm->segment->SharesDevice(comm->rank)) {
      ended.error = ExplainNccl(ncclInvalidUsage,
                                StrCat("two ranks have device ", comm->device, " of one process"));
    }
  }
  for (const Group::Pending& pending : ended.pending) {
    if (ended.error == ncclSuccess) ended.error = Enqueue(pending);
  }
  return ended.error;
}

// Runs `body` as a group of its own, or as part of the one that is open.
template <typename F>
ncclResult_t InGroup(F&& body) {
  ++group.depth;
  const ncclResult_t error = body();
  if (error != ncclSuccess) group.error = error;
  if (--group.depth > 0) return error;
  return EndGroup();
}

ncclResult_t Join(ncclComm_t* handle, int num_ranks, const ncclUniqueId& id, int rank) {
  *handle = nullptr;
  if (num_ranks < 1 || num_ranks > kMaxRanks || rank < 0 || rank >= num_ranks) {
    return ExplainNccl(ncclInvalidArgument, StrCat("rank ", rank, " of ", num_ranks, ": at most ",
                                                   kMaxRanks, " are simulated"));
  }
  Runtime& runtime = Runtime::Get();
  if (runtime.num_devices() == 0 || Sticky() != cudaSuccess) return ncclUnhandledCudaError;
  if (const ncclResult_t error = BeginCall(); error != ncclSuccess) return error;
  const int device = Runtime::current_device();
  auto segment = Segment::Join(id, num_ranks, rank, device);
  if (!segment.ok()) return FromStatus(segment.status());
  auto comm = std::make_shared<Communicator>(*std::move(segment), num_ranks, rank, device);
  *handle = new ncclComm{comm};
  group.joining.push_back(std::move(comm));
  return ncclSuccess;
}

bool IsMemory(const Communicator& comm, const void* pointer, size_t bytes) {
  return bytes == 0 || Runtime::Get()
                               .device(comm.device)
                               .memory->Find(reinterpret_cast<uint64_t>(pointer), bytes) != nullptr;
}

ncclResult_t Check(const Communicator& comm, const Call& call) {
  const auto bad = [&](std::string_view what) {
    return ExplainNccl(ncclInvalidArgument, StrCat(NameOf(call), ": ", what));
  };
  const bool reduces = call.collective == Collective::kAllReduce ||
                       call.collective == Collective::kReduceScatter ||
                       call.collective == Collective::kReduce;
  if (BytesOf(call.type) == 0) return bad("no such type");
  if (reduces && !IsReduction(call.reduction)) return bad("this reduction is not simulated");
  if (reduces && (call.type == ncclFloat8e4m3 || call.type == ncclFloat8e5m2)) {
    return bad("reductions of 8-bit floats are not simulated");
  }
  if (call.root < 0 || call.root >= comm.num_ranks) return bad("no such root or peer");
  if (!IsMemory(comm, call.send, call.send_bytes(comm))) {
    return bad("what is sent is not in memory of the communicator's device");
  }
  if (!IsMemory(comm, call.receive, call.receive_bytes(comm))) {
    return bad("what is received does not fit memory of the communicator's device");
  }
  return ncclSuccess;
}

ncclResult_t Issue(ncclComm_t handle, cudaStream_t stream, const Call& call) {
  return InGroup([&] {
    if (handle == nullptr) return ExplainNccl(ncclInvalidArgument, "the communicator is null");
    const auto& comm = handle->state;
    if (const ncclResult_t error = BeginCall(comm->device); error != ncclSuccess) return error;
    if (comm->aborted || comm->async_error != ncclSuccess) {
      return ExplainNccl(ncclInvalidUsage, "the communicator has failed: it can only be aborted");
    }
    if (const ncclResult_t error = Check(*comm, call); error != ncclSuccess) return error;
    const auto same = std::find_if(group.pending.begin(), group.pending.end(),
                                   [&](const auto& pending) { return pending.comm == comm; });
    if (same == group.pending.end()) {
      group.pending.push_back({comm, stream, {call}});
    } else if (same->stream != stream) {
      return ExplainNccl(ncclInvalidUsage,
                         "one communicator on two streams of a group is not simulated");
    } else {
      same->calls.push_back(call);
    }
    return ncclSuccess;
  });
}

}  // namespace
}  // namespace trireme::gpusim

using trireme::gpusim::BeginCall;
using trireme::gpusim::Collective;
using trireme::gpusim::ExplainNccl;
using trireme::gpusim::group;
using trireme::gpusim::Issue;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const ncclResult_t error = BeginCall(); error != ncclSuccess) return error;
  const absl::Status status = trireme::gpusim::Segment::Create(id);
  return status.ok() ? ncclSuccess : trireme::gpusim::FromStatus(status);
}

// Blocks until all ranks have called it; in a group, at its end.
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank) {
  return trireme::gpusim::InGroup([&] { return trireme::gpusim::Join(comm, num_ranks, id, rank); });
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config != nullptr && config->blocking == 0) {
    return ExplainNccl(ncclInvalidArgument, "communicators that do not block are not simulated");
  }
  return ncclCommInitRank(comm, num_ranks, id, rank);
}

ncclResult_t ncclCommInitAll(ncclComm_t* comms, int num_devices, const int* devices) {
  ncclUniqueId id;
  if (const ncclResult_t error = ncclGetUniqueId(&id); error != ncclSuccess) return error;
  return trireme::gpusim::InGroup([&] {
    for (int rank = 0; rank < num_devices; ++rank) {
      const int device = devices != nullptr ? devices[rank] : rank;
      if (device < 0 || device >= trireme::gpusim::Runtime::Get().num_devices()) {
        return ExplainNccl(ncclInvalidArgument, trireme::StrCat("no device ", device));
      }
      const trireme::gpusim::OnDevice current(device);
      const ncclResult_t error = trireme::gpusim::Join(&comms[rank], num_devices, id, rank);
      if (error != ncclSuccess) return error;
    }
    return ncclSuccess;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return comm != nullptr ? ncclSuccess : ncclInvalidArgument;
}

// Operations that are under way go on: they have the communicator's state.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

// Operations that are under way end at once; what they should have written is not.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  comm->state->aborted = true;
  return ncclCommDestroy(comm);
}

const char* ncclGetErrorString(ncclResult_t result) {
  constexpr const char* kTexts[] = {"no error",
                                    "unhandled cuda error",
                                    "unhandled system error",
                                    "internal error",
                                    "invalid argument",
                                    "invalid usage",
                                    "remote process exited or there was a network error",
                                    "NCCL operation in progress"};
  return result >= 0 && result < ncclNumResults ? kTexts[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) {
  thread_local std::string text;
  text = trireme::gpusim::LastNcclError();
  return text.c_str();
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (comm == nullptr) return ncclInvalidArgument;
  if (const ncclResult_t failed = BeginCall(comm->state->device); failed != ncclSuccess) {
    return failed;
  }
  *error = comm->state->async_error;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  *count = comm->state->num_ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  *device = comm->state->device;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  *rank = comm->state->rank;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kAllReduce, send, receive, count, type, op});
}

ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kReduce, send, receive, count, type, op, root});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kBroadcast, send, receive, count, type, ncclSum, root});
}

ncclResult_t ncclBcast(void* buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                       cudaStream_t stream) {
  return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t receive_count,
                               ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kReduceScatter, send, receive, receive_count, type, op});
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kAllGather, send, receive, send_count, type});
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kSendRecv, send, nullptr, count, type, ncclSum, peer});
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Issue(comm, stream, {Collective::kSendRecv, nullptr, receive, count, type, ncclSum, peer});
}

ncclResult_t ncclGroupStart() {
  if (const ncclResult_t error = BeginCall(); error != ncclSuccess) return error;
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ExplainNccl(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (const ncclResult_t error = BeginCall(); error != ncclSuccess) group.error = error;
  if (--group.depth > 0) return group.error;
  return trireme::gpusim::EndGroup();
}

}  // extern "C"
