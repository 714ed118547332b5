// What one call, or the calls of one group, make a communicator do.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/gpusim/nccl/communicator.h"

namespace trireme::gpusim {

struct Call {
  Collective collective = Collective::kSendRecv;
  const void* send = nullptr;  // null for ncclRecv
  void* receive = nullptr;     // null for ncclSend
  size_t count = 0;            // as the call has it
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;  // or peer

  size_t bytes() const;
  // What the rank reads and writes.
  size_t send_bytes(const Communicator& comm) const;
  size_t receive_bytes(const Communicator& comm) const;
};
std::string_view NameOf(const Call& call);  // "ncclAllReduce"

// Moves the bytes of some calls between this rank and the others, as far as they are ready.
class Exchange {
 public:
  Exchange(Communicator* comm, const std::vector<Call>& calls);

  cudaError_t ReadInputs();  // of device memory
  bool Advance();            // whether everything has been sent and received
  cudaError_t WriteOutputs();

 private:
  struct Transfer {
    Envelope envelope;
    std::byte* bytes;
    size_t done = 0;
    bool begun = false;
    bool finished() const { return begun && done == envelope.bytes; }
  };
  struct Running {
    Call call;
    std::vector<std::byte> mine;                // what was read
    std::vector<std::vector<std::byte>> parts;  // by rank, what came
  };
  void Plan(Running* running);
  void Send(Running* running, int peer, size_t offset, size_t bytes);
  void Receive(Running* running, int peer, size_t bytes);
  bool AdvanceSend(int peer);
  bool AdvanceReceive(int peer);
  std::vector<std::byte> Result(Running* running) const;

  Communicator* const comm_;
  std::vector<Running> running_;
  std::array<std::deque<Transfer>, kMaxRanks> sends_, receives_;  // by peer, in order
};

// The same as a stream's work: called until it no longer says cudaErrorNotReady.
class Operation {
 public:
  Operation(std::shared_ptr<Communicator> comm, std::vector<Call> calls, bool captured);
  cudaError_t Run();

 private:
  const std::shared_ptr<Communicator> comm_;
  const std::vector<Call> calls_;
  const bool captured_;  // runs with each launch of its graph
  bool has_turn_ = false, hangs_ = false;
  uint64_t turn_ = 0;
  int polls_to_wait_ = 0;  // of a slow rank
  std::unique_ptr<Exchange> exchange_;
};

}  // namespace trireme::gpusim
