#include "server/pull/file_download.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::pull {
namespace {

constexpr int kMaxRestarts = 3;
constexpr int64_t kMaxErrorPageBytes = 1 << 20;
// What counts as progress between two failures: less would let a server that sends a byte and
// hangs up keep us for ever.
constexpr int64_t kProgressBytes = 256 << 10;

// That the remote file is not what it was: the one status that leads to a restart.
absl::Status Changed(std::string_view what) { return absl::AbortedError(ToAbsl(what)); }

std::optional<int64_t> Number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

struct ContentRange {
  int64_t begin, end, size;
};

// "bytes 0-499/1234" (RFC 9110, 14.4); `end` is the byte after the last.
std::optional<ContentRange> ParseContentRange(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const size_t dash = text.find('-'), slash = text.find('/');
  if (dash == text.npos || slash == text.npos || dash > slash) return std::nullopt;
  const auto begin = Number(text.substr(0, dash));
  const auto last = Number(text.substr(dash + 1, slash - dash - 1));
  const auto size = Number(text.substr(slash + 1));
  if (!begin || !last || !size || *begin > *last || *last >= *size) return std::nullopt;
  return ContentRange{*begin, *last + 1, *size};
}

std::string Validator(const ResponseHead& head) {
  const std::string tag = head.Get("etag");
  return tag.empty() ? head.Get("last-modified") : tag;
}

}  // namespace

absl::Status CheckFileSize(int64_t bytes) {
  if (bytes <= kMaxFileBytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      StrCat("the server says it has ", bytes, " bytes; at most ", kMaxFileBytes, " are accepted"));
}

// ---- Job

FileDownload::Job::Job(FileDownload* file, size_t segment, Request request, int64_t begin,
                       int64_t end)
    : file_(file),
      segment_(segment),
      begin_(begin),
      asked_end_(end),
      end_(end),
      transfer_(std::move(request), this) {}

absl::Status FileDownload::Job::OnHead(const ResponseHead& head) {
  const std::string encoding = head.Get("content-encoding");
  if (head.status / 100 == 2 && !encoding.empty() && encoding != "identity") {
    return absl::FailedPreconditionError(
        StrCat("the server sends it encoded (", Printable(encoding), "), unasked"));
  }
  if (head.status == 206) return file_->TakeRange(this, head);
  if (head.status == 200) return file_->TakeWhole(this, head);
  return absl::OkStatus();
}

absl::Status FileDownload::Job::OnData(absl::Span<const char> data) {
  const auto count = static_cast<int64_t>(data.size());
  if (!is_body_) {
    dropped_bytes_ += count;
    return dropped_bytes_ <= kMaxErrorPageBytes
               ? absl::OkStatus()
               : absl::ResourceExhaustedError("the server's error page does not end");
  }
  Segment& segment = file_->part_->segments()[segment_];
  if (count > std::min(segment.end, end_) - segment.next())
    return absl::DataLossError("the server sends more bytes than it announced");
  if (file_->size_bytes() < 0) {
    TRIREME_RETURN_IF_ERROR(CheckFileSize(segment.next() + count));
    TRIREME_RETURN_IF_ERROR(file_->limits_.reserve(count));
  }
  return file_->part_->Write(&segment, data);
}

// ---- FileDownload

FileDownload::FileDownload(RemoteFile remote, std::string path, Limits limits)
    : remote_(std::move(remote)), path_(std::move(path)), limits_(std::move(limits)) {}

absl::StatusOr<std::unique_ptr<FileDownload>> FileDownload::Open(const RemoteFile& remote,
                                                                 const std::string& path,
                                                                 const Limits& limits) {
  auto file = std::unique_ptr<FileDownload>(new FileDownload(remote, path, limits));
  TRIREME_RETURN_IF_ERROR(CheckFileSize(remote.size_bytes));
  TRIREME_ASSIGN_OR_RETURN(file->part_, PartFile::Open(path));
  if (remote.size_bytes >= 0) {
    TRIREME_RETURN_IF_ERROR(file->Plan(file->Identity(remote.size_bytes, "")));
  } else if (const auto saved = PartFile::SavedIdentity(path);
             saved && saved->key == file->Identity(0, "").key && !saved->validator.empty() &&
             CheckFileSize(saved->size_bytes).ok()) {
    // The server confirms it, or tells that it has another one, when If-Range is sent.
    TRIREME_RETURN_IF_ERROR(file->Plan(*saved));
  }
  return file;
}

PartIdentity FileDownload::Identity(int64_t size, const std::string& validator) const {
  const std::string url = remote_.url.substr(0, remote_.url.find('?'));
  return {remote_.checksum ? remote_.checksum->Text() : url, size, validator};
}

int64_t FileDownload::size_bytes() const {
  return part_->begun() ? part_->identity().size_bytes : remote_.size_bytes;
}

absl::Status FileDownload::Plan(const PartIdentity& identity) {
  // A size that a listing gave comes without a validator: the one of the state, if it has one, goes
  // out with If-Range.
  TRIREME_RETURN_IF_ERROR(part_->Begin(identity, remote_.checksum.has_value()));
  attempts_.assign(part_->segments().size(), {});
  return limits_.reserve(0);
}

Request FileDownload::MakeRequest(const Segment& segment) const {
  Request request = {remote_.url, "GET", remote_.headers, {}, limits_.timeout};
  if (whole_) return request;
  request.headers.push_back(StrCat("Range: bytes=", segment.next(), "-", segment.end - 1));
  // A weak ETag says too little for ranges (RFC 9110, 13.1.5): it is compared in TakeRange.
  const std::string& validator = part_->identity().validator;
  if (!validator.empty() && !validator.starts_with("W/"))
    request.headers.push_back(StrCat("If-Range: ", validator));
  return request;
}

absl::StatusOr<std::unique_ptr<FileDownload::Job>> FileDownload::NextJob(absl::Time now) {
  if (attempts_.empty()) attempts_.resize(1);  // nothing is known: ask for the beginning
  for (size_t i = 0; i < attempts_.size(); ++i) {
    Attempt& attempt = attempts_[i];
    Segment segment = {0, kMinSegmentBytes};
    if (part_->begun()) {
      if (i >= part_->segments().size()) break;
      segment = part_->segments()[i];
      if (segment.done()) continue;
    }
    if (attempt.running || attempt.not_before > now) continue;
    Request request = MakeRequest(segment);
    if (remote_.auth) {
      TRIREME_ASSIGN_OR_RETURN(request.auth, remote_.auth());
    }
    attempt.running = true;
    attempt.failed_at = segment.next();
    return std::make_unique<Job>(this, i, std::move(request), segment.next(), segment.end);
  }
  return std::unique_ptr<Job>();
}

absl::Time FileDownload::next_due() const {
  absl::Time due = absl::InfiniteFuture();
  for (const Attempt& attempt : attempts_) {
    if (!attempt.running) due = std::min(due, attempt.not_before);
  }
  return due;
}

absl::Status FileDownload::TakeRange(Job* job, const ResponseHead& head) {
  const auto range = ParseContentRange(head.Get("content-range"));
  if (whole_ || !range || range->begin != job->begin_ || range->end > job->end_) {
    return absl::FailedPreconditionError(
        StrCat("the server answers with another range than it was asked for: ",
               Printable(head.Get("content-range"))));
  }
  const std::string validator = Validator(head);
  const bool all = range->begin == 0 && range->end == range->size;
  if (validator.empty() && !remote_.checksum && !all) {
    whole_ = true;
    return Changed(
        "the server gives neither ETag nor checksum, so that its ranges cannot be told "
        "to be of one file: it is fetched over one connection");
  }
  TRIREME_RETURN_IF_ERROR(CheckFileSize(range->size));
  if (remote_.size_bytes >= 0 && range->size != remote_.size_bytes) {
    return absl::DataLossError(StrCat("the server has ", range->size,
                                      " bytes of it where the listing says ", remote_.size_bytes));
  }
  if (!part_->begun()) {
    TRIREME_RETURN_IF_ERROR(Plan(Identity(range->size, validator)));
    attempts_[0].running = true;
    // An earlier run has the beginning already: this answer is of no use.
    if (part_->segments()[0].next() != job->begin_) return absl::CancelledError("already here");
  } else {
    const PartIdentity& known = part_->identity();
    if (range->size != known.size_bytes) return Changed("it has another size now");
    if (!known.validator.empty() && validator != known.validator)
      return Changed("it was replaced meanwhile");
    part_->SetValidator(validator);
  }
  job->end_ = range->end;
  job->is_body_ = true;
  return absl::OkStatus();
}

absl::Status FileDownload::TakeWhole(Job* job, const ResponseHead& head) {
  // If-Range did not hold, or the server knows no ranges. Either way: all of it, from the start.
  if (part_->begun() && !whole_) {
    if (part_->written_bytes() > 0 || job->segment_ != 0)
      return Changed("it was replaced, or the server knows no ranges");
    const bool alone = std::count_if(attempts_.begin(), attempts_.end(),
                                     [](const Attempt& a) { return a.running; }) == 1;
    if (!alone) return Changed("the server knows no ranges");
  }
  const std::string length = head.Get("content-length");
  const std::optional<int64_t> size = Number(length);
  if (!length.empty() && !size)
    return absl::FailedPreconditionError("the server sends a Content-Length that is no number");
  if (size) {
    TRIREME_RETURN_IF_ERROR(CheckFileSize(*size));
  } else if (head.Get("transfer-encoding").empty() && !remote_.checksum) {
    return absl::FailedPreconditionError(
        "the server does not say how long it is, so that nobody can tell when a part is missing");
  }
  if (remote_.size_bytes >= 0 && size && *size != remote_.size_bytes) {
    return absl::DataLossError(StrCat("the server has ", *size,
                                      " bytes of it where the listing says ", remote_.size_bytes));
  }
  whole_ = true;
  const int64_t expected = size.value_or(remote_.size_bytes);
  TRIREME_RETURN_IF_ERROR(part_->BeginWhole(Identity(expected, Validator(head))));
  attempts_.resize(1);
  attempts_[0].running = true;
  TRIREME_RETURN_IF_ERROR(limits_.reserve(0));
  job->end_ = std::numeric_limits<int64_t>::max();
  job->is_body_ = true;
  return absl::OkStatus();
}

absl::Status FileDownload::Failed(Job* job, const Result& result, const absl::Status& why,
                                  absl::Time now) {
  Attempt& attempt = attempts_[job->segment_];
  const bool known = part_->begun() && job->segment_ < part_->segments().size();
  const int64_t reached = known ? part_->segments()[job->segment_].next() : 0;
  const bool progress = !whole_ && reached - attempt.failed_at >= kProgressBytes;
  attempt.failures = progress ? 1 : attempt.failures + 1;
  ++retries_;
  if (attempt.failures > limits_.retries) {
    return Annotate(why, StrCat("gave up after ", attempt.failures,
                                attempt.failures == 1 ? " attempt" : " attempts"));
  }
  if (result.retry_after > kMaxRetryAfter) {
    return Annotate(why, StrCat("the server asks to wait ",
                                absl::FormatDuration(result.retry_after), "; try again then"));
  }
  attempt.not_before = now + RetryPause(attempt.failures, result.retry_after);
  return absl::OkStatus();
}

absl::StatusOr<FileDownload::Verdict> FileDownload::Ended(Job* job, const Result& result,
                                                          absl::Time now) {
  if (job->segment_ < attempts_.size()) attempts_[job->segment_].running = false;
  const absl::Status& status = result.status;
  if (absl::IsAborted(status)) return Verdict::kRestart;
  if (absl::IsCancelled(status)) return Verdict::kGoesOn;  // "already here"
  if (!status.ok()) {
    if (!result.retryable) return status;
    TRIREME_RETURN_IF_ERROR(Failed(job, result, status, now));
    // Without ranges there is no going on from where it broke.
    if (whole_ && part_->begun()) return Verdict::kRestart;
    return Verdict::kGoesOn;
  }
  const int code = result.head.status;
  if (code == 416) {
    if (part_->begun() && part_->identity().size_bytes > 0) return Verdict::kRestart;
    if (result.head.Get("content-range") != "bytes */0")
      return HttpError(code, remote_.name, "the server refuses the range");
    TRIREME_RETURN_IF_ERROR(part_->BeginWhole(Identity(0, "")));
    return Verdict::kGoesOn;
  }
  if (!job->is_body_) {
    const bool denied = code == 401 || code == 403 || code == 404;
    const absl::Status why = HttpError(code, remote_.name, denied ? remote_.denied_hint : "");
    if (!result.retryable) return why;
    TRIREME_RETURN_IF_ERROR(Failed(job, result, why, now));
    return Verdict::kGoesOn;
  }
  if (whole_ && size_bytes() < 0) part_->SetEnd();
  TRIREME_RETURN_IF_ERROR(TakeEnd(job, result, now));
  return whole_ && !done() ? Verdict::kRestart : Verdict::kGoesOn;
}

// After an answer in good order: whether it held what was asked for. One that ends early is taken
// up where it ended, for nothing when it brought us on, else as a failure.
absl::Status FileDownload::TakeEnd(Job* job, const Result& result, absl::Time now) {
  Attempt& attempt = attempts_[job->segment_];
  if (part_->segments().empty()) return absl::OkStatus();  // of an empty file
  const Segment& segment = part_->segments()[job->segment_];
  const int64_t reached = segment.next();
  const int64_t wanted = whole_ ? segment.end : std::min(segment.end, job->asked_end_);
  if (reached >= wanted || (!whole_ && reached - job->begin_ >= kProgressBytes)) {
    attempt.failures = 0;
    return absl::OkStatus();
  }
  return Failed(job, result, absl::UnavailableError("the answer ends before what was asked for"),
                now);
}

absl::Status FileDownload::Restart(std::string_view why) {
  if (!whole_ && ++restarts_ > kMaxRestarts) {
    return absl::UnavailableError(
        StrCat(why, ", again and again: it was started over ", kMaxRestarts, " times"));
  }
  const std::vector<Attempt> before = std::move(attempts_);
  TRIREME_RETURN_IF_ERROR(part_->Reset());
  attempts_.assign(1, {});
  if (!before.empty()) {
    attempts_[0].failures = before[0].failures;
    attempts_[0].not_before = before[0].not_before;
  }
  return absl::OkStatus();
}

}  // namespace trireme::pull
