#include "server/observe/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

absl::Status ErrnoStatus(std::string_view what, int error) {
  const std::string message = StrCat(what, ": ", ErrnoText(error));
  if (error == EACCES || error == EPERM || error == EROFS) {
    return absl::PermissionDeniedError(message);
  }
  return absl::UnavailableError(message);
}

// Writes all, whatever signals and full pipes say; the number of bytes that went out before an
// error.
size_t WriteAll(int fd, std::string_view bytes, int* error) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + written, bytes.size() - written);
    if (n >= 0) {
      written += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd ready = {.fd = fd, .events = POLLOUT, .revents = 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      *error = errno;
      break;
    }
  }
  return written;
}

}  // namespace

absl::StatusOr<LogFile> LogFile::Open(const std::string& path, Mode mode) {
  const bool record = mode == Mode::kRecord;
  if (path == "-" && !record) return LogFile(path, mode, dup(STDOUT_FILENO), /*regular=*/false);
  // Not blocking: a FIFO without a reader is an error, not a start that hangs.
  const int flags = (record ? O_RDWR : O_WRONLY) | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK;
  const int fd = open(path.c_str(), flags, record ? 0600 : 0640);
  if (fd < 0) return ErrnoStatus("cannot be opened for writing", errno);
  struct stat info;
  const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  LogFile file(path, mode, fd, regular);
  if (record && !regular) return absl::InvalidArgumentError("is no regular file");
  if (regular && flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError("is being written by another process: give each its own file");
  }
  return file;
}

LogFile::LogFile(LogFile&& other) noexcept
    : path_(std::move(other.path_)),
      mode_(other.mode_),
      fd_(std::exchange(other.fd_, -1)),
      regular_(other.regular_),
      torn_(other.torn_) {}

LogFile::~LogFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status LogFile::Append(std::string_view lines) {
  struct stat before;
  if (regular_ && fstat(fd_, &before) != 0) return ErrnoStatus("cannot be written", errno);
  int error = 0;
  if (torn_ && WriteAll(fd_, "\n", &error) == 1) torn_ = false;
  const size_t written = error == 0 ? WriteAll(fd_, lines, &error) : 0;
  if (error == 0 && mode_ == Mode::kRecord && fdatasync(fd_) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  if (regular_ && ftruncate(fd_, before.st_size) == 0)
    return ErrnoStatus("cannot be written", error);
  torn_ |= written > 0 && lines[written - 1] != '\n';
  return ErrnoStatus("cannot be written", error);
}

absl::Status LogFile::Clear() { return regular_ ? Truncate(0) : absl::OkStatus(); }

absl::Status LogFile::Truncate(int64_t size) {
  if (ftruncate(fd_, size) != 0) return ErrnoStatus("cannot be cut", errno);
  return absl::OkStatus();
}

absl::StatusOr<bool> LogFile::Reopen() {
  if (!regular_) return false;
  struct stat at_path, ours;
  if (stat(path_.c_str(), &at_path) == 0 && fstat(fd_, &ours) == 0 &&
      at_path.st_dev == ours.st_dev && at_path.st_ino == ours.st_ino) {
    return false;
  }
  TRIREME_ASSIGN_OR_RETURN(LogFile fresh, Open(path_, mode_));
  struct stat there;
  if (mode_ == Mode::kRecord && fstat(fresh.fd_, &there) == 0 && there.st_size != 0) {
    return absl::FailedPreconditionError("the new file is not empty");
  }
  std::swap(fd_, fresh.fd_);
  std::swap(regular_, fresh.regular_);
  return true;
}

}  // namespace trireme
