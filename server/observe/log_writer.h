// A log behind a bounded queue and a thread of its own: whoever has something to log never waits
// for the disk, and a record that finds no place is counted, not written.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/observe/log_file.h"

namespace trireme {

// Counts records that were lost. Thread-safe.
using DropCounter = std::function<void(int64_t records)>;

struct LogWriterOptions {
  std::string name;             // in the process's own log: "access log"
  size_t max_queued = 1 << 14;  // records
  DropCounter dropped;
  // On the writer's thread, after each batch: whether what the formats made is in the file.
  std::function<void(bool written, int records)> batch_done;
};

// Thread-safe.
class LogWriter {
 public:
  // Appends the lines of one record. Called on the writer's thread, in order of Append; owns what
  // it needs.
  using Format = absl::AnyInvocable<void(std::string* out)>;

  LogWriter(LogFile file, LogWriterOptions options);
  ~LogWriter();  // Close, with little patience

  void Append(Format record);
  // Asynchronous: LogFile::Reopen before the next batch. A failure is logged.
  void Reopen();
  // Writes what is queued, for at most `patience`; the rest is counted as dropped. A thread that
  // the disk holds up is left behind. Nothing is taken afterwards. Once.
  void Close(absl::Duration patience);

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with the thread, which may outlive the writer
};

}  // namespace trireme
