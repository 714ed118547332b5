// A log behind a bounded queue and a thread of its own: whoever has something to log never waits
// for the disk, nor for the process's own log, and a record that finds no place is counted, not
// written.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/observe/log_file.h"

namespace trireme {

// Counts records that were lost. Thread-safe, never blocks; owns what it needs, because a thread
// that was left behind may still call it.
using DropCounter = std::function<void(int64_t records)>;

// The functions own what they need: one that began just before Close gave up may end after it.
struct LogWriterOptions {
  // Appends the lines of one record.
  using Format = absl::AnyInvocable<void(std::string* out)>;

  std::string name;             // in the process's own log: "access log"
  size_t max_queued = 1 << 14;  // records
  DropCounter dropped;
  // On the writer's thread, after each batch: whether what the formats made is in the file. May
  // block as the process's own log does; nobody but this log waits for it.
  std::function<void(bool written, int records)> batch_done;
  // On the writer's thread, when the log goes on in a new file: that file's first record.
  std::function<Format()> first_of_new_file;
};

// Thread-safe.
class LogWriter {
 public:
  // Called on the writer's thread, in order of Append; owns what it needs.
  using Format = LogWriterOptions::Format;

  LogWriter(LogFile file, LogWriterOptions options);
  ~LogWriter();  // Close, with little patience

  void Append(Format record);
  // Asynchronous: LogFile::Reopen before the next batch. A failure is logged.
  void Reopen();
  // Nothing is taken any more; what is queued is being written. Does not wait.
  void BeginClose();
  // BeginClose, and waits for the end at most `patience`. If that is not enough, the thread is left
  // behind, what it has not told of (its queue, and the batch in hand, which the disk may take yet)
  // is counted as dropped, and false returned. Once; true afterwards.
  bool Close(absl::Duration patience);

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with the thread, which may outlive the writer
};

}  // namespace trireme
