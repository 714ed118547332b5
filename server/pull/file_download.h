// One file on its way here: which ranges to ask for next, whether an answer belongs to the same
// bytes as those before it, and what a failed request means.
//
// Ranges are joined only when a validator or a checksum vouches that they are of the same bytes.
// Without either, the file comes in one answer, from its beginning.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/pull/checksum.h"
#include "server/pull/http.h"
#include "server/pull/part_file.h"

namespace trireme::pull {

inline constexpr int64_t kMaxFileBytes = int64_t{4} << 40;
// RESOURCE_EXHAUSTED when `bytes`, which a peer names, are more than that.
absl::Status CheckFileSize(int64_t bytes);

// What is to be fetched, as a listing or the command line names it.
struct RemoteFile {
  std::string name;  // relative to the folder; IsSafePath
  std::string url;
  std::vector<std::string> headers;
  std::function<absl::StatusOr<Auth>()> auth;  // null: nothing to prove. Asked for each request
  int64_t size_bytes = -1;                     // -1: not known before the first answer
  std::optional<Checksum> checksum;
  std::string denied_hint;  // what to do about 401, 403 and 404
};

// One thread; the callbacks of its transfers come on it.
class FileDownload {
 public:
  struct Limits {
    int retries = 5;
    absl::Duration timeout = absl::Seconds(30);
    // Whether what is planned fits the disk, and so many bytes more.
    std::function<absl::Status(int64_t more_bytes)> reserve;
  };

  static absl::StatusOr<std::unique_ptr<FileDownload>> Open(const RemoteFile& remote,
                                                            const std::string& path,
                                                            const Limits& limits);

  // A transfer that is to run now; null: none at this time.
  class Job;
  absl::StatusOr<std::unique_ptr<Job>> NextJob(absl::Time now);
  // When the next job is due although none is now: after a pause.
  absl::Time next_due() const;
  // Takes how a job ended. kRestart: the caller drops the other jobs of this file and calls
  // Restart, since the remote file is another one now. A status: the file cannot be had.
  enum class Verdict { kGoesOn, kRestart };
  absl::StatusOr<Verdict> Ended(Job* job, const Result& result, absl::Time now);
  absl::Status Restart(std::string_view why);

  bool done() const { return part_->done(); }
  PartFile& part() { return *part_; }
  const RemoteFile& remote() const { return remote_; }
  const std::string& path() const { return path_; }
  int64_t size_bytes() const;  // -1: not known yet
  int64_t retries() const { return retries_; }

 private:
  struct Attempt {
    bool running = false;
    int failures = 0;  // in a row, without any progress between
    int64_t failed_at = 0;
    absl::Time not_before = absl::InfinitePast();
  };

  FileDownload(RemoteFile remote, std::string path, Limits limits);
  PartIdentity Identity(int64_t size, const std::string& validator) const;
  absl::Status Plan(const PartIdentity& identity);
  absl::Status TakeRange(Job* job, const ResponseHead& head);
  absl::Status TakeWhole(Job* job, const ResponseHead& head);
  Request MakeRequest(const Segment& segment) const;
  absl::Status TakeEnd(Job* job, const Result& result, absl::Time now);
  absl::Status Failed(Job* job, const Result& result, const absl::Status& why, absl::Time now);

  const RemoteFile remote_;
  const std::string path_;
  const Limits limits_;
  std::unique_ptr<PartFile> part_;
  std::vector<Attempt> attempts_;  // of each segment
  bool whole_ = false;             // in one answer: no ranges are to be had, or to be trusted
  int restarts_ = 0;
  int64_t retries_ = 0;
};

// A request for the rest of one segment.
class FileDownload::Job : public Receiver {
 public:
  Job(FileDownload* file, size_t segment, Request request, int64_t begin, int64_t end);
  absl::Status OnHead(const ResponseHead& head) override;
  absl::Status OnData(absl::Span<const char> data) override;

  Transfer& transfer() { return transfer_; }
  FileDownload& file() const { return *file_; }

 private:
  friend class FileDownload;
  FileDownload* const file_;
  const size_t segment_;
  const int64_t begin_, asked_end_;  // what was asked for: bytes up to this one
  int64_t end_;                      // what the answer holds; until it is there: asked_end_
  bool is_body_ = false;             // of the file, not of an error page
  int64_t dropped_bytes_ = 0;        // of that page
  Transfer transfer_;
};

}  // namespace trireme::pull
