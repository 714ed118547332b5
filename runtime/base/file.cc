#include "runtime/base/file.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

const dev_t kNullDevice = makedev(1, 3);  // devices.txt of the kernel
constexpr size_t kFirstRead = 16 << 10;   // files of /proc say that they are empty

absl::Status OpenError(const std::string& path, int error) {
  const std::string message = StrCat("cannot open ", path, ": ", ErrnoText(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == EACCES) return absl::PermissionDeniedError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes, struct stat* info) {
  // A pipe without a writer is refused below, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return OpenError(path, errno);
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat found = {};
  if (fstat(fd, &found) == 0 && S_ISCHR(found.st_mode) && found.st_rdev == kNullDevice) return "";
  if (!S_ISREG(found.st_mode)) {
    return absl::InvalidArgumentError(StrCat(path, " is not a regular file"));
  }
  if (info != nullptr) *info = found;
  const auto said = static_cast<size_t>(std::max<off_t>(found.st_size, 0));
  std::string text;
  // One byte more than it says shows that it ends there.
  size_t wanted = std::max(said, kFirstRead) + 1;
  for (size_t size = 0;;) {
    if (said > max_bytes || size > max_bytes) {
      return absl::ResourceExhaustedError(StrCat(path, " is larger than ", max_bytes, " bytes"));
    }
    text.resize(std::min(wanted, max_bytes + 1));
    const ssize_t n = read(fd, text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(StrCat("cannot read ", path, ": ", ErrnoText(errno)));
    size += static_cast<size_t>(n);
    if (n == 0) {
      text.resize(size);
      return text;
    }
    if (size == text.size()) wanted = 2 * size;
  }
}

absl::StatusOr<std::string> ReadSetting(const std::string& path, std::string_view flag) {
  auto text = ReadFile(path, kMaxSettingsBytes);
  return text.ok() ? text : Annotate(text.status(), flag);
}

}  // namespace trireme
