// A file that only grows, by whole batches of lines.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme {

// Used by one thread at a time. Regular files are locked: a second process that opens one is
// refused.
class LogFile {
 public:
  enum class Mode {
    kLines,   // append; "-" is standard output; pipes and devices are welcome
    kRecord,  // append, a regular file only, readable by its owner alone, written to the disk
              // itself
  };
  // Errors say what is wrong with `path`; whoever calls names the flag.
  static absl::StatusOr<LogFile> Open(const std::string& path, Mode mode);

  LogFile(LogFile&& other) noexcept;
  LogFile& operator=(LogFile&&) = delete;
  ~LogFile();

  // All of `lines` or nothing, as far as the file can take something back: what was written of a
  // failed batch is cut off a regular file; elsewhere the next batch begins on a line of its own.
  // Blocks as the disk (or the reader of a pipe) does.
  absl::Status Append(std::string_view lines);

  // After `path` was renamed or removed: goes on in a new file of that name, and says so (true).
  // Without effect when `path` is still the open file. On an error, and for kRecord when the file
  // there is not empty, it goes on in the old one.
  absl::StatusOr<bool> Reopen();

  // What the file holds is dropped; without effect on pipes and devices.
  absl::Status Clear();

  // For reading back; -1: closed. Of kRecord only.
  int fd() const { return fd_; }
  absl::Status Truncate(int64_t size);

 private:
  LogFile(std::string path, Mode mode, int fd, bool regular)
      : path_(std::move(path)), mode_(mode), fd_(fd), regular_(regular) {}

  std::string path_;
  Mode mode_;
  int fd_;
  bool regular_;
  bool torn_ = false;  // the last line is incomplete
};

}  // namespace trireme
