// Streams as queues: what is enqueued runs when somebody waits for it, or at random before. Host
// code that forgets to wait therefore reads old data, now or with another seed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string_view>
#include <vector>

#include "tests/gpusim/vm/stream_operation.h"

namespace trireme::gpusim {

class Stream;

enum class Progress : uint8_t {
  kDone,
  kNotYet,  // it waits for another stream, the host or another process, and is tried again
};
using Work = std::function<Progress()>;

// A point of a stream: all that was enqueued before.
struct Point {
  std::shared_ptr<Stream> stream;  // null: nothing
  uint64_t position = 0;
  std::shared_ptr<const StreamOperation> last;  // of it; null: nothing was enqueued
};

class Stream {
 public:
  Stream(uint32_t id, int device, bool is_default, bool blocking, int priority)
      : id(id), device(device), is_default(is_default), blocking(blocking), priority(priority) {}

  const uint32_t id;  // unique, from 1 on
  const int device;
  const bool is_default;  // the legacy default stream
  const bool blocking;    // orders itself with the default stream
  const int priority;

 private:
  friend class Queues;
  struct Item {
    Work work;
    std::vector<Point> after;
    std::shared_ptr<StreamOperation> operation;  // knows what the host knew when it was enqueued
    bool begun = false;
  };
  // All guarded by Queues::mu_.
  std::deque<Item> items_;
  std::shared_ptr<StreamOperation> last_enqueued_, last_done_;
  uint64_t enqueued_ = 0, done_ = 0;
  bool busy_ = false;
};

// The streams of all devices. Thread-safe: work runs in the threads that wait for it, or enqueue
// something, at most one piece a stream at a time.
class Queues {
 public:
  explicit Queues(uint64_t seed) : random_(seed) {}

  std::shared_ptr<Stream> Create(int device, bool is_default, bool blocking, int priority);
  void Destroy(const std::shared_ptr<Stream>& stream);  // what it holds still runs

  // `what` is for findings: "kernel add".
  void Enqueue(const std::shared_ptr<Stream>& stream, std::string_view what, Work work,
               std::vector<Point> after = {});
  // The stream's further work runs after `point`.
  void WaitFor(const std::shared_ptr<Stream>& stream, Point point);
  Point End(const std::shared_ptr<Stream>& stream);
  // Both: the host then knows what has been done.
  bool IsDone(const Point& point);
  void Finish(const Point& point);  // runs what is needed
  void FinishDevice(int device);
  void Seed(uint64_t seed);

 private:
  // Runs one piece of work of the stream, or of one that it waits for. False: another thread is at
  // it, or it cannot run yet.
  bool Advance(const std::shared_ptr<Stream>& stream, std::unique_lock<std::mutex>* lock);
  bool AdvanceAny(std::unique_lock<std::mutex>* lock);
  void RunSome(std::unique_lock<std::mutex>* lock);

  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Stream>> streams_;  // guarded by mu_, as all below
  std::mt19937_64 random_;
  uint32_t last_id_ = 0;
};

}  // namespace trireme::gpusim
