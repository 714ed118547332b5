// One rank's end of a communicator.
#pragma once

#include <nccl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "tests/gpusim/nccl/segment.h"

namespace trireme::gpusim {

// Thread-safe.
struct Communicator {
  Communicator(std::shared_ptr<Segment> segment, int num_ranks, int rank, int device)
      : segment(std::move(segment)), num_ranks(num_ranks), rank(rank), device(device) {}

  const std::shared_ptr<Segment> segment;
  const int num_ranks, rank, device;

  std::atomic<bool> aborted = false;
  // What went wrong beside the calls; operations that are under way then hang until ncclCommAbort.
  std::atomic<ncclResult_t> async_error = ncclSuccess;
  void Fail(ncclResult_t error, std::string what);

  // Operations take turns in the order of their calls, whatever their streams are.
  std::atomic<uint64_t> next_turn = 0, turn = 0;
};

// Keeps `what` for ncclGetLastError, says it on stderr and hands `error` on.
ncclResult_t ExplainNccl(ncclResult_t error, std::string what);
std::string LastNcclError();

}  // namespace trireme::gpusim

struct ncclComm {
  std::shared_ptr<trireme::gpusim::Communicator> state;
};
