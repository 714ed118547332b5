// trireme pull: from a source to a model on this machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/pull/download.h"

namespace trireme::pull {

// Every default stands here.
struct PullOptions {
  std::string source;    // ParseSource
  std::string revision;  // hf; empty: the source's, else "main"
  std::string sha256;    // of a source that is one file; empty: the source's own checksum, if any
  std::string output;    // folder; empty: in the cache
  int jobs = 8;
  int retries = 5;
  absl::Duration timeout = absl::Seconds(30);
  bool offline = false;
};

struct PullResult {
  std::string path;      // the model's: what MODEL may be
  std::string revision;  // hf: the commit
  int files = 0;
  int kept_files = 0;  // of these, those that were here already
  int64_t bytes = 0;   // of all files
  int64_t fetched_bytes = 0;
  int64_t retries = 0;
};

// `cache`: CacheFolder. The observer is called on this thread. CANCELLED once `*stop`: what is
// there is kept for the next run. One pull at a time writes to a folder: others get
// FAILED_PRECONDITION.
absl::StatusOr<PullResult> Pull(const PullOptions& options, const std::string& cache,
                                const std::atomic<bool>* stop,
                                const std::function<void(const DownloadEvent&)>& observer);

}  // namespace trireme::pull
