#include "tests/gpusim/nccl/segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

constexpr std::string_view kPrefix = "/trireme-gpusim-nccl-";

// Segments that this process has created: none outlives it.
class Created {
 public:
  void Add(std::string name) {
    std::lock_guard lock(mu_);
    names_.push_back({getpid(), std::move(name)});
  }
  ~Created() {
    for (const auto& [creator, name] : names_) {
      if (creator == getpid()) shm_unlink(name.c_str());  // gone already when all had joined
    }
  }

 private:
  std::mutex mu_;
  std::vector<std::pair<pid_t, std::string>> names_;  // a child of fork() has its parent's, too
};
Created& AllCreated() {
  static Created created;
  return created;
}

}  // namespace

struct Segment::Shared {
  std::atomic<int32_t> num_ranks;  // 0 until the first has joined
  std::atomic<int32_t> joined;
  std::atomic<int32_t> process[kMaxRanks];  // 0: has not joined
  std::atomic<int32_t> device[kMaxRanks];   // of that process
  Channel channels[kMaxRanks][kMaxRanks];   // from, to
};

absl::Status Segment::Create(ncclUniqueId* id) {
  std::random_device random;
  const std::string name = StrCat(kPrefix, getpid(), "-", random(), "-", random());
  const int file = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file < 0) return absl::InternalError(ToAbsl(StrCat("shm_open: ", std::strerror(errno))));
  AllCreated().Add(name);
  const bool sized = ftruncate(file, sizeof(Shared)) == 0;
  close(file);
  if (!sized) return absl::InternalError(ToAbsl(StrCat("ftruncate: ", std::strerror(errno))));
  std::memset(id, 0, sizeof(*id));
  std::memcpy(id->internal, name.data(), name.size());
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::Join(const ncclUniqueId& id, int num_ranks,
                                                       int rank, int device) {
  const std::string name(id.internal, strnlen(id.internal, sizeof(id.internal)));
  if (name.rfind(kPrefix, 0) != 0) {
    return absl::InvalidArgumentError("the id is not one of ncclGetUniqueId");
  }
  const int file = shm_open(name.c_str(), O_RDWR, 0);
  if (file < 0) {
    return absl::InvalidArgumentError(
        "the id is used up: its communicator is complete, or its process gone");
  }
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) {
    return absl::InternalError(ToAbsl(StrCat("mmap: ", std::strerror(errno))));
  }
  auto* const shared = static_cast<Shared*>(memory);
  auto segment = std::shared_ptr<Segment>(new Segment(shared, name));
  int32_t others = 0;
  if (!shared->num_ranks.compare_exchange_strong(others, num_ranks) && others != num_ranks) {
    return absl::InvalidArgumentError(ToAbsl(
        StrCat("another rank has joined as one of ", others, ", this as one of ", num_ranks)));
  }
  int32_t nobody = 0;
  if (!shared->process[rank].compare_exchange_strong(nobody, getpid())) {
    return absl::InvalidArgumentError(ToAbsl(StrCat("rank ", rank, " has joined already")));
  }
  shared->device[rank] = device;
  if (shared->joined.fetch_add(1) + 1 == num_ranks) shm_unlink(name.c_str());
  return segment;
}

Segment::~Segment() { munmap(shared_, sizeof(Shared)); }

bool Segment::Complete() const { return shared_->joined == shared_->num_ranks; }

bool Segment::SharesDevice(int rank) const {
  for (int other = 0; other < shared_->num_ranks; ++other) {
    if (other != rank && shared_->process[other] == shared_->process[rank] &&
        shared_->device[other] == shared_->device[rank]) {
      return true;
    }
  }
  return false;
}

bool Segment::IsGone(int rank) const {
  const pid_t process = shared_->process[rank];
  return process != 0 && process != getpid() && kill(process, 0) != 0 && errno == ESRCH;
}

Channel& Segment::channel(int from, int to) { return shared_->channels[from][to]; }

}  // namespace trireme::gpusim
