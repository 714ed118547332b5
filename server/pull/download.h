// Fetches files side by side, each in ranges side by side, over a bounded number of connections.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/pull/file_download.h"

namespace trireme::pull {

struct DownloadOptions {
  std::string folder;  // exists
  int jobs = 8;        // connections
  int retries = 5;     // in a row, without progress
  absl::Duration timeout = absl::Seconds(30);
  const std::atomic<bool>* stop = nullptr;  // ends it with CANCELLED, what is there is kept
  // Bytes that the folder's disk has room for; tests say what they like.
  std::function<int64_t(const std::string& folder)> free_bytes;
};

// Room on the disk of `folder` for users like us; the largest number when it cannot be told.
int64_t FreeBytes(const std::string& folder);

// What happens, in order; called on the thread of Download.
struct DownloadEvent {
  enum class Kind { kProgress, kFileDone, kRestarted };
  Kind kind = Kind::kProgress;
  std::string file;        // kFileDone, kRestarted
  std::string why;         // kRestarted
  std::string checksum;    // kFileDone: "sha256:..." that it was found to have; empty: none known
  std::string validator;   // kFileDone: the server's for it (ETag); empty: it gave none
  int64_t file_bytes = 0;  // kFileDone
  int64_t done_bytes = 0;  // of all files, what an earlier run left included
  int64_t fetched_bytes = 0;  // by this run
  int64_t total_bytes = -1;   // -1: not known yet
  int64_t retries = 0;        // so far
};

// Each file appears under its name once it is whole, checked and flushed. The first error ends it;
// what was fetched stays for the next run. Messages name the file.
absl::Status Download(const std::vector<RemoteFile>& files, const DownloadOptions& options,
                      const std::function<void(const DownloadEvent&)>& observer);

}  // namespace trireme::pull
