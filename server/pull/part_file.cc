#include "server/pull/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <filesystem>
#include <limits>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::pull {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxSegmentBytes = int64_t{256} << 20;
constexpr int64_t kWantedSegments = 64;
constexpr size_t kMaxStateBytes = 4 << 20;

absl::Status FileError(const std::string& path, int error) {
  return absl::UnavailableError(StrCat(path, ": ", ErrnoText(error)));
}

absl::Status SyncFolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(folder, errno);
  const bool ok = fsync(fd) == 0 || errno == EINVAL;  // some file systems sync no folders
  const int error = errno;
  close(fd);
  return ok ? absl::OkStatus() : FileError(folder, error);
}

json::object ReadState(const std::string& path) {
  const auto text = ReadFile(path, kMaxStateBytes);
  if (!text.ok()) return {};
  boost::system::error_code wrong;
  const json::value value = json::parse(*text, wrong);
  return !wrong && value.is_object() ? value.get_object() : json::object();
}

std::string TextOf(const json::object& state, const char* key) {
  const json::value* value = state.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

}  // namespace

PartFile::PartFile(std::string path, int fd)
    : path_(std::move(path)),
      part_path_(path_ + ".part"),
      state_path_(path_ + ".part.json"),
      fd_(fd) {}

PartFile::~PartFile() { close(fd_); }

absl::StatusOr<std::unique_ptr<PartFile>> PartFile::Open(const std::string& path) {
  const std::string part = path + ".part";
  const int fd = open(part.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(part, errno);
  return std::unique_ptr<PartFile>(new PartFile(path, fd));
}

std::optional<PartIdentity> PartFile::SavedIdentity(const std::string& path) {
  const json::object state = ReadState(path + ".part.json");
  const json::value* size = state.if_contains("size");
  if (size == nullptr || !size->is_int64() || size->get_int64() < 0) return std::nullopt;
  return PartIdentity{TextOf(state, "key"), size->get_int64(), TextOf(state, "validator")};
}

void PartFile::Plan() {
  segments_.clear();
  const int64_t size = identity_.size_bytes;
  int64_t length = std::clamp(size / kWantedSegments, kMinSegmentBytes, kMaxSegmentBytes);
  for (int64_t begin = 0; begin < size; begin += length)
    segments_.push_back({begin, std::min(size, begin + length)});
}

bool PartFile::Restore(bool verified) {
  const json::object state = ReadState(state_path_);
  const json::value* size = state.if_contains("size");
  const json::value* written = state.if_contains("written");
  const std::string validator = TextOf(state, "validator");
  if (TextOf(state, "key") != identity_.key || size == nullptr || !size->is_int64() ||
      size->get_int64() != identity_.size_bytes || written == nullptr || !written->is_array() ||
      written->get_array().size() != segments_.size()) {
    return false;
  }
  if (validator.empty() ? !verified
                        : validator != identity_.validator && !identity_.validator.empty())
    return false;
  struct stat info = {};
  if (fstat(fd_, &info) != 0) return false;
  for (size_t i = 0; i < segments_.size(); ++i) {
    Segment& segment = segments_[i];
    const json::value& count = written->get_array()[i];
    if (!count.is_int64() || count.get_int64() < 0 ||
        count.get_int64() > segment.end - segment.begin ||
        (count.get_int64() > 0 && segment.begin + count.get_int64() > info.st_size)) {
      return false;
    }
    segment.written = count.get_int64();
  }
  if (identity_.validator.empty()) identity_.validator = validator;
  return true;
}

absl::Status PartFile::Begin(const PartIdentity& identity, bool verified) {
  identity_ = identity;
  begun_ = resumable_ = true;
  Plan();
  if (Restore(verified)) return absl::OkStatus();
  Plan();
  std::error_code ignored;
  std::filesystem::remove(state_path_, ignored);
  return ftruncate(fd_, 0) == 0 ? absl::OkStatus() : FileError(part_path_, errno);
}

absl::Status PartFile::BeginWhole(const PartIdentity& identity) {
  TRIREME_RETURN_IF_ERROR(Reset());
  identity_ = identity;
  begun_ = true;
  resumable_ = false;
  const bool known = identity.size_bytes >= 0;
  if (identity.size_bytes != 0)
    segments_.push_back({0, known ? identity.size_bytes : std::numeric_limits<int64_t>::max()});
  return absl::OkStatus();
}

absl::Status PartFile::Reset() {
  identity_ = {};
  segments_.clear();
  begun_ = dirty_ = false;
  std::error_code ignored;
  std::filesystem::remove(state_path_, ignored);
  return ftruncate(fd_, 0) == 0 ? absl::OkStatus() : FileError(part_path_, errno);
}

int64_t PartFile::written_bytes() const {
  int64_t sum = 0;
  for (const Segment& segment : segments_) sum += segment.written;
  return sum;
}

bool PartFile::done() const {
  return begun_ && std::all_of(segments_.begin(), segments_.end(),
                               [](const Segment& segment) { return segment.done(); });
}

absl::Status PartFile::Write(Segment* segment, absl::Span<const char> data) {
  dirty_ = true;
  while (!data.empty()) {
    const ssize_t count = pwrite(fd_, data.data(), data.size(), segment->next());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      if (error != ENOSPC && error != EDQUOT && error != EFBIG) return FileError(part_path_, error);
      const int64_t missing = identity_.size_bytes - written_bytes();
      return absl::ResourceExhaustedError(
          StrCat(part_path_, ": ", ErrnoText(error),
                 missing > 0 ? StrCat("; ", missing, " more bytes are needed there") : "",
                 ": make room, or give --output a folder elsewhere, and run this again; it goes on "
                 "where it was"));
    }
    segment->written += count;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status PartFile::Save() {
  if (!dirty_ || !resumable_) return absl::OkStatus();
  dirty_ = false;
  json::array written;
  for (const Segment& segment : segments_) written.push_back(segment.written);
  if (fdatasync(fd_) != 0) return FileError(part_path_, errno);
  return WriteFileAtomically(state_path_,
                             json::serialize(json::object{{"key", identity_.key},
                                                          {"size", identity_.size_bytes},
                                                          {"validator", identity_.validator},
                                                          {"written", std::move(written)}}));
}

void PartFile::SetEnd() {
  for (Segment& segment : segments_) segment.end = segment.next();
  identity_.size_bytes = written_bytes();
}

absl::Status CommitPart(const std::string& path) {
  const std::string part = path + ".part";
  const int fd = open(part.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(part, errno);
  const bool synced = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (!synced) return FileError(part, error);
  if (rename(part.c_str(), path.c_str()) != 0) return FileError(path, errno);
  std::error_code ignored;
  std::filesystem::remove(path + ".part.json", ignored);
  return SyncFolderOf(path);
}

absl::Status WriteFileAtomically(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".new";
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(temporary, errno);
  bool ok = write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  ok = ok && fsync(fd) == 0;
  int error = errno;
  close(fd);
  if (ok && rename(temporary.c_str(), path.c_str()) != 0) {
    ok = false;
    error = errno;
  }
  return ok ? absl::OkStatus() : FileError(path, error);
}

}  // namespace trireme::pull
