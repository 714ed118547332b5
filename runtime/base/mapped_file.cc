#include "runtime/base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Everything the signal handler touches: fixed size, lock-free, never freed.
struct Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> damaged{false};
};
constexpr int kMaxFiles = 4096;  // shards of the largest published checkpoints: below 300
std::array<Slot, kMaxFiles> g_slots;
std::mutex g_slots_mu;
struct sigaction g_previous;

void OnSigbus(int signo, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Slot& slot : g_slots) {
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= slot.end.load(std::memory_order_acquire))
      continue;
    const uintptr_t page = address & ~static_cast<uintptr_t>(sysconf(_SC_PAGESIZE) - 1);
    void* mapped = mmap(reinterpret_cast<void*>(page), static_cast<size_t>(sysconf(_SC_PAGESIZE)),
                        PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (mapped == MAP_FAILED) break;
    slot.damaged.store(true, std::memory_order_release);
    return;
  }
  if (g_previous.sa_flags & SA_SIGINFO && g_previous.sa_sigaction != nullptr) {
    g_previous.sa_sigaction(signo, info, context);
    return;
  }
  // Default action: returning re-executes the faulting instruction, now fatally.
  signal(SIGBUS, SIG_DFL);
}

void InstallHandlerOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = OnSigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    TRIREME_CHECK(sigaction(SIGBUS, &action, &g_previous) == 0);
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  // A pipe without a writer must be refused below, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    const std::string message = StrCat("cannot open ", path, ": ", ErrnoText(error));
    if (error == ENOENT) return absl::NotFoundError(message);
    if (error == EACCES) return absl::PermissionDeniedError(message);
    return absl::InvalidArgumentError(message);
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0) {
    close(fd);
    return absl::InvalidArgumentError(StrCat(path, " is not a non-empty regular file"));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  InstallHandlerOnce();
  std::lock_guard lock(g_slots_mu);
  int index = 0;
  while (index < kMaxFiles && g_slots[index].begin.load() != 0) ++index;
  if (index == kMaxFiles) {
    close(fd);
    return absl::ResourceExhaustedError("too many mapped files");
  }
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(StrCat("cannot map ", path, ": ", ErrnoText(error)));
  }
  Slot& slot = g_slots[index];
  slot.damaged.store(false);
  slot.end.store(reinterpret_cast<uintptr_t>(data) + size, std::memory_order_release);
  slot.begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
  return std::unique_ptr<MappedFile>(
      new MappedFile(static_cast<const uint8_t*>(data), size, index, info.st_ino,
                     int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec));
}

MappedFile::~MappedFile() {
  std::lock_guard lock(g_slots_mu);
  munmap(const_cast<uint8_t*>(data_), size_);
  g_slots[slot_].begin.store(0, std::memory_order_release);
}

bool MappedFile::damaged() const { return g_slots[slot_].damaged.load(std::memory_order_acquire); }

void MappedFile::Release(size_t offset, size_t length) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length) / page * page;
  if (begin < end && end <= size_) {
    madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
  }
}

}  // namespace trireme
