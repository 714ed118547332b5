#include "server/pull/download.h"

#include <curl/curl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <limits>
#include <memory>
#include <mutex>

#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/worker_pool.h"

namespace trireme::pull {
namespace {

constexpr absl::Duration kSaveInterval = absl::Seconds(1);
constexpr absl::Duration kProgressInterval = absl::Milliseconds(200);
constexpr int kPollMs = 100;

// What an earlier run's part takes already.
int64_t AllocatedBytes(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 ? static_cast<int64_t>(info.st_blocks) * 512 : 0;
}

class Downloader {
 public:
  Downloader(const std::vector<RemoteFile>& files, const DownloadOptions& options,
             const std::function<void(const DownloadEvent&)>& observer)
      : options_(options),
        observer_(observer),
        waiting_(files.begin(), files.end()),
        multi_(curl_multi_init()) {}

  ~Downloader() {
    while (!running_.empty()) Drop(running_.begin());
    abandoned_ = true;
    checks_.reset();  // waits for them
    curl_multi_cleanup(multi_);
  }

  absl::Status Run() {
    for (const RemoteFile& file : waiting_) {  // Reserve adds them up
      if (absl::Status size = CheckFileSize(file.size_bytes); !size.ok())
        return Annotate(size, file.name);
    }
    TRIREME_RETURN_IF_ERROR(Reserve(0));
    absl::Status status;
    while (status.ok() && !(waiting_.empty() && open_.empty())) {
      if (*options_.stop) {
        abandoned_ = true;
        status = absl::CancelledError("interrupted");
      }
      if (status.ok()) status = Step();
    }
    for (const auto& file : open_) {  // for the next run; the first error is the one that counts
      if (!file->being_checked) status.Update(file->download->part().Save());
    }
    return status;
  }

 private:
  struct OpenFile {
    std::unique_ptr<FileDownload> download;
    bool being_checked = false;
    int mismatches = 0;
    int64_t found_bytes = 0;  // when it was opened
  };
  struct Checked {
    OpenFile* file;
    absl::Status status;
  };
  using Jobs = std::deque<std::unique_ptr<FileDownload::Job>>;

  absl::Status Step() {
    TRIREME_RETURN_IF_ERROR(StartJobs());
    int running = 0;
    curl_multi_perform(multi_, &running);
    int queued = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &queued)) {
      if (message->msg != CURLMSG_DONE) continue;
      TRIREME_RETURN_IF_ERROR(JobEnded(message->easy_handle, message->data.result));
    }
    TRIREME_RETURN_IF_ERROR(StartChecks());
    TRIREME_RETURN_IF_ERROR(TakeChecked());
    const absl::Time now = absl::Now();
    if (now - saved_at_ >= kSaveInterval) {
      saved_at_ = now;
      for (const auto& file : open_) {
        if (!file->being_checked) TRIREME_RETURN_IF_ERROR(file->download->part().Save());
      }
    }
    if (now - told_at_ >= kProgressInterval) Tell({DownloadEvent::Kind::kProgress});
    curl_multi_poll(multi_, nullptr, 0, kPollMs, nullptr);
    return absl::OkStatus();
  }

  // The files that are open come first, so that few are unfinished when we are killed.
  absl::Status StartJobs() {
    const absl::Time now = absl::Now();
    size_t next = 0;
    while (running_.size() < static_cast<size_t>(options_.jobs)) {
      if (next == open_.size()) {
        if (waiting_.empty()) return absl::OkStatus();
        TRIREME_RETURN_IF_ERROR(OpenNext());
      }
      OpenFile& file = *open_[next];
      std::unique_ptr<FileDownload::Job> job;
      if (!file.being_checked && !file.download->done()) {
        auto made = file.download->NextJob(now);
        if (!made.ok()) return Name(made.status(), *file.download);
        job = *std::move(made);
      }
      if (job == nullptr) {
        ++next;
        continue;
      }
      curl_multi_add_handle(multi_, job->transfer().handle());
      running_.push_back(std::move(job));
    }
    return absl::OkStatus();
  }

  absl::Status OpenNext() {
    const RemoteFile remote = std::move(waiting_.front());
    waiting_.pop_front();
    const std::string path = options_.folder + "/" + remote.name;
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    FileDownload::Limits limits = {options_.retries, options_.timeout,
                                   [this](int64_t bytes) { return Reserve(bytes); }};
    auto download = FileDownload::Open(remote, path, limits);
    if (!download.ok()) return Annotate(download.status(), remote.name);
    auto file = std::make_unique<OpenFile>();
    file->found_bytes = (*download)->part().written_bytes();
    file->download = *std::move(download);
    open_.push_back(std::move(file));
    return absl::OkStatus();
  }

  // Whether `bytes` more, and all that is known to come besides, fit the disk.
  absl::Status Reserve(int64_t bytes) {
    int64_t needed = bytes;
    for (const RemoteFile& file : waiting_) {
      const std::string part = options_.folder + "/" + file.name + ".part";
      needed += std::max<int64_t>(0, file.size_bytes - AllocatedBytes(part));
    }
    for (const auto& file : open_) {
      const int64_t size = file->download->size_bytes();
      if (size > 0) needed += std::max<int64_t>(0, size - file->download->part().written_bytes());
    }
    const int64_t free = options_.free_bytes(options_.folder);
    if (needed <= free) return absl::OkStatus();
    return absl::ResourceExhaustedError(StrCat(
        "the disk is too full: ", needed, " bytes are needed in ", options_.folder, ", ", free,
        " are free: make room for ", needed - free, " more, or give --output a folder elsewhere"));
  }

  static absl::Status Name(const absl::Status& status, const FileDownload& file) {
    return FromAbsl(status.message()).starts_with(file.remote().name)
               ? status
               : Annotate(status, file.remote().name);
  }

  void Drop(const Jobs::iterator& job) {
    curl_multi_remove_handle(multi_, (*job)->transfer().handle());
    running_.erase(job);
  }

  absl::Status JobEnded(CURL* handle, CURLcode code) {
    const auto found = std::find_if(running_.begin(), running_.end(), [&](const auto& job) {
      return job->transfer().handle() == handle;
    });
    curl_multi_remove_handle(multi_, handle);
    std::optional<Result> result = (*found)->transfer().Finished(code);
    if (!result) {  // a redirect
      curl_multi_add_handle(multi_, handle);
      return absl::OkStatus();
    }
    const std::unique_ptr<FileDownload::Job> job = std::move(*found);
    running_.erase(found);
    FileDownload& file = job->file();
    auto verdict = file.Ended(job.get(), *result, absl::Now());
    if (!verdict.ok()) return Name(verdict.status(), file);
    if (*verdict == FileDownload::Verdict::kRestart)
      return StartOver(&file, FromAbsl(result->status.message()));
    return absl::OkStatus();
  }

  absl::Status StartOver(FileDownload* file, std::string_view why) {
    for (auto job = running_.begin(); job != running_.end();) {
      if (&(*job)->file() != file) {
        ++job;
        continue;
      }
      Drop(job);
      job = running_.begin();  // a deque: erasing moved them
    }
    TRIREME_RETURN_IF_ERROR(Name(file->Restart(why), *file));
    for (const auto& open : open_) {
      if (open->download.get() == file) open->found_bytes = 0;
    }
    DownloadEvent event = {DownloadEvent::Kind::kRestarted};
    event.file = file->remote().name;
    event.why = why;
    Tell(event);
    return absl::OkStatus();
  }

  // Checksums, flushes and renames run beside the transfers.
  absl::Status StartChecks() {
    for (const auto& open : open_) {
      OpenFile* file = open.get();
      FileDownload& download = *file->download;
      if (file->being_checked || !download.done()) continue;
      TRIREME_RETURN_IF_ERROR(Name(download.part().Save(), download));
      file->being_checked = true;
      const bool queued = checks_->TrySubmit([this, file, &download] {
        absl::Status status;
        if (const auto& checksum = download.remote().checksum)
          status = CheckFile(download.part().part_path(), *checksum, &abandoned_);
        if (status.ok()) status = CommitPart(download.path());
        const std::lock_guard lock(mu_);
        checked_.push_back({file, std::move(status)});
        curl_multi_wakeup(multi_);
      });
      if (!queued) file->being_checked = false;  // the next step tries again
    }
    return absl::OkStatus();
  }

  absl::Status TakeChecked() {
    std::vector<Checked> checked;
    {
      const std::lock_guard lock(mu_);
      checked.swap(checked_);
    }
    for (const Checked& one : checked) {
      FileDownload& download = *one.file->download;
      if (absl::IsDataLoss(one.status) && ++one.file->mismatches < 2) {
        // What an earlier run left may be at fault: once more, all of it.
        one.file->being_checked = false;
        TRIREME_RETURN_IF_ERROR(StartOver(&download, "its checksum is wrong"));
        continue;
      }
      if (absl::IsDataLoss(one.status)) {
        (void)download.part().Reset();
        return Name(Annotate(one.status, "what the server sends is damaged"), download);
      }
      TRIREME_RETURN_IF_ERROR(Name(one.status, download));
      DownloadEvent event = {DownloadEvent::Kind::kFileDone};
      event.file = download.remote().name;
      event.file_bytes = download.size_bytes();
      if (download.remote().checksum) event.checksum = download.remote().checksum->Text();
      event.validator = download.part().identity().validator;
      finished_bytes_ += download.size_bytes();
      finished_found_bytes_ += one.file->found_bytes;
      finished_retries_ += download.retries();
      std::erase_if(open_, [&](const auto& file) { return file.get() == one.file; });
      Tell(event);
    }
    return absl::OkStatus();
  }

  void Tell(DownloadEvent event) {
    told_at_ = absl::Now();
    int64_t done = finished_bytes_, found = finished_found_bytes_, total = finished_bytes_;
    event.retries = finished_retries_;
    bool known = true;
    for (const auto& file : open_) {
      done += file->download->part().written_bytes();
      found += file->found_bytes;
      total += std::max<int64_t>(0, file->download->size_bytes());
      known = known && file->download->size_bytes() >= 0;
      event.retries += file->download->retries();
    }
    for (const RemoteFile& file : waiting_) {
      total += std::max<int64_t>(0, file.size_bytes);
      known = known && file.size_bytes >= 0;
    }
    event.done_bytes = done;
    event.fetched_bytes = std::max<int64_t>(0, done - found);
    event.total_bytes = known ? total : -1;
    observer_(event);
  }

  const DownloadOptions& options_;
  const std::function<void(const DownloadEvent&)>& observer_;
  std::deque<RemoteFile> waiting_;
  std::vector<std::unique_ptr<OpenFile>> open_;
  CURLM* const multi_;
  Jobs running_;
  absl::Time saved_at_ = absl::Now(), told_at_ = absl::InfinitePast();
  int64_t finished_bytes_ = 0, finished_found_bytes_ = 0, finished_retries_ = 0;
  std::atomic<bool> abandoned_ = false;  // ends checksums
  std::mutex mu_;
  std::vector<Checked> checked_;  // guarded by mu_
  std::unique_ptr<WorkerPool> checks_ = std::make_unique<WorkerPool>(1, 64);
};

}  // namespace

int64_t FreeBytes(const std::string& folder) {
  struct statvfs info = {};
  if (statvfs(folder.c_str(), &info) != 0) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

absl::Status Download(const std::vector<RemoteFile>& files, const DownloadOptions& options,
                      const std::function<void(const DownloadEvent&)>& observer) {
  return Downloader(files, options, observer).Run();
}

}  // namespace trireme::pull
