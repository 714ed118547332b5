#include "server/observe/log_writer.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxBatch = 256;  // records: what one failed write loses
constexpr absl::Duration kLastPatience = absl::Seconds(1);

}  // namespace

struct LogWriter::State {
  State(LogFile log_file, LogWriterOptions log_options)
      : file(std::move(log_file)), options(std::move(log_options)) {}

  void Run();
  std::deque<Format> Take();
  void Write(std::deque<Format> batch);
  void ReopenFile();
  void NoteHealth(const absl::Status& status);

  // Writer's thread only, once it runs.
  LogFile file;
  bool failing = false;

  const LogWriterOptions options;

  // Never held while anything is called that may block: Append takes it on threads that must not
  // wait, the engine's among them.
  std::mutex mu;
  std::condition_variable changed;
  // Guarded by mu.
  std::deque<Format> queue;
  size_t in_hand = 0;  // records being written: neither in the queue nor told of
  bool reopen = false;
  bool closing = false;
  bool ended = false;        // the thread has nothing more to do
  bool left_behind = false;  // what it had in hand then is counted: it tells of nothing more
  std::thread thread;        // of the owner
};

void LogWriter::State::Run() {
  std::unique_lock lock(mu);
  for (;;) {
    changed.wait(lock, [this] { return !queue.empty() || reopen || closing; });
    if (std::exchange(reopen, false)) {
      lock.unlock();
      ReopenFile();
      lock.lock();
    }
    if (left_behind || (closing && queue.empty())) break;
    std::deque<Format> batch = Take();
    lock.unlock();
    Write(std::move(batch));
    lock.lock();
  }
  ended = true;
  changed.notify_all();
}

std::deque<LogWriter::Format> LogWriter::State::Take() {
  std::deque<Format> batch;
  while (!queue.empty() && batch.size() < kMaxBatch) {
    batch.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  in_hand = batch.size();
  return batch;
}

void LogWriter::State::Write(std::deque<Format> batch) {
  if (batch.empty()) return;
  std::string lines;
  for (Format& format : batch) format(&lines);
  const absl::Status status = file.Append(lines);
  {
    std::lock_guard lock(mu);
    if (left_behind) return;
    in_hand = 0;
  }
  const int records = static_cast<int>(batch.size());
  if (!status.ok()) options.dropped(records);
  if (options.batch_done) options.batch_done(status.ok(), records);
  NoteHealth(status);
}

void LogWriter::State::NoteHealth(const absl::Status& status) {
  if (failing == !status.ok()) return;
  failing = !status.ok();
  if (failing) {
    Log(LogLevel::kError, StrCat(options.name, " cannot be written; records are being dropped"),
        {{"error", FromAbsl(status.message())}});
  } else {
    Log(LogLevel::kInfo, StrCat(options.name, " is written again"));
  }
}

void LogWriter::State::ReopenFile() {
  const absl::StatusOr<bool> anew = file.Reopen();
  if (!anew.ok()) {
    Log(LogLevel::kError, StrCat(options.name, " goes on in the old file"),
        {{"error", FromAbsl(anew.status().message())}});
  } else if (*anew && options.first_of_new_file) {
    // At once: if the process dies now, the new file is not an empty one.
    std::deque<Format> first;
    first.push_back(options.first_of_new_file());
    {
      std::lock_guard lock(mu);
      in_hand = 1;
    }
    Write(std::move(first));
  }
}

LogWriter::LogWriter(LogFile file, LogWriterOptions options)
    : state_(std::make_shared<State>(std::move(file), std::move(options))) {
  state_->thread = std::thread([state = state_] { state->Run(); });
}

LogWriter::~LogWriter() { Close(kLastPatience); }

void LogWriter::Append(Format record) {
  {
    std::lock_guard lock(state_->mu);
    if (!state_->closing && state_->queue.size() < state_->options.max_queued) {
      state_->queue.push_back(std::move(record));
      state_->changed.notify_one();
      return;
    }
  }
  state_->options.dropped(1);
}

void LogWriter::Reopen() {
  std::lock_guard lock(state_->mu);
  state_->reopen = true;
  state_->changed.notify_all();
}

void LogWriter::BeginClose() {
  std::lock_guard lock(state_->mu);
  state_->closing = true;
  state_->changed.notify_all();
}

bool LogWriter::Close(absl::Duration patience) {
  BeginClose();
  State& state = *state_;
  if (!state.thread.joinable()) return true;
  std::deque<Format> unwritten;
  std::unique_lock lock(state.mu);
  if (state.changed.wait_for(lock, absl::ToChronoNanoseconds(patience),
                             [&] { return state.ended; })) {
    lock.unlock();
    state.thread.join();
    return true;
  }
  state.left_behind = true;
  unwritten.swap(state.queue);
  const size_t lost = unwritten.size() + std::exchange(state.in_hand, 0);
  lock.unlock();
  state.thread.detach();
  if (lost > 0) state.options.dropped(static_cast<int64_t>(lost));
  Log(LogLevel::kWarning, StrCat(state.options.name, " could not be written to its end"),
      {{"lost", lost}});
  return false;
}

}  // namespace trireme
