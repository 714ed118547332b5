// Where the ranks of a communicator meet: shared memory with a channel from every rank to every
// other one, the same whether they are threads of one process or processes.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::gpusim {

inline constexpr int kMaxRanks = 16;

enum class Collective : int32_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kReduce,
  kSendRecv,
};

// What travels with a message: both ends must mean the same.
struct Envelope {
  Collective collective = Collective::kSendRecv;
  int32_t type = 0, reduction = 0, root = 0;
  uint64_t bytes = 0;

  bool operator==(const Envelope&) const = default;
};

// One message after the other, in pieces; one writer, one reader.
struct Channel {
  static constexpr size_t kPieceBytes = 64 * 1024;

  std::atomic<uint64_t> written, read;  // pieces
  Envelope envelope;
  alignas(64) std::byte piece[kPieceBytes];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);  // works between processes, too

class Segment {
 public:
  // A new one, empty, known to every process of this machine by the id.
  static absl::Status Create(ncclUniqueId* id);
  // Thread-safe. INVALID_ARGUMENT when the id is none, the sizes differ or the rank is taken.
  static absl::StatusOr<std::shared_ptr<Segment>> Join(const ncclUniqueId& id, int num_ranks,
                                                       int rank, int device);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const std::string& name() const { return name_; }  // the same for all ranks
  bool Complete() const;                             // all ranks have joined
  bool SharesDevice(int rank) const;                 // with another rank, of a complete one
  bool IsGone(int rank) const;                       // its process has ended
  Channel& channel(int from, int to);

 private:
  struct Shared;
  Segment(Shared* shared, std::string name) : shared_(shared), name_(std::move(name)) {}

  Shared* const shared_;
  const std::string name_;
};

}  // namespace trireme::gpusim
