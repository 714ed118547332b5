#include "tests/gpusim/cudart/stream.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace trireme::gpusim {
namespace {

// How long to wait for what no queue knows of (another process).
constexpr std::chrono::milliseconds kOutsidePoll(1);

// Set while this thread runs work: a host function must not enqueue more (CUDA forbids it).
thread_local bool inside_work = false;

}  // namespace

std::shared_ptr<Stream> Queues::Create(int device, bool is_default, bool blocking, int priority) {
  std::lock_guard lock(mu_);
  auto stream = std::make_shared<Stream>(++last_id_, device, is_default, blocking, priority);
  streams_.push_back(stream);
  return stream;
}

void Queues::Destroy(const std::shared_ptr<Stream>& stream) {
  Finish(End(stream));
  std::lock_guard lock(mu_);
  std::erase(streams_, stream);
}

void Queues::Enqueue(const std::shared_ptr<Stream>& stream, std::string_view what, Work work,
                     std::vector<Point> after) {
  std::unique_lock lock(mu_);
  const auto position = static_cast<uint32_t>(++stream->enqueued_);
  auto operation = std::make_shared<StreamOperation>(what, stream->id, position, HostClock());
  Stream::Item item{std::move(work), std::move(after), operation};
  // The default stream is behind everything of the blocking streams, and they are behind it.
  for (const auto& other : streams_) {
    if (other == stream || other->device != stream->device) continue;
    const bool ordered =
        stream->is_default ? other->blocking : stream->blocking && other->is_default;
    if (ordered) item.after.push_back({other, other->enqueued_, other->last_enqueued_});
  }
  stream->items_.push_back(std::move(item));
  stream->last_enqueued_ = std::move(operation);
  changed_.notify_all();
  RunSome(&lock);
}

void Queues::RunSome(std::unique_lock<std::mutex>* lock) {
  if (inside_work) return;
  for (int tries = static_cast<int>(random_() % 4); tries > 0; --tries) {
    const auto stream = streams_[random_() % streams_.size()];
    if (!stream->items_.empty()) Advance(stream, lock);
  }
}

void Queues::WaitFor(const std::shared_ptr<Stream>& stream, Point point) {
  if (point.stream == nullptr || point.stream == stream) return;
  Enqueue(stream, "wait for an event", [] { return Progress::kDone; }, {std::move(point)});
}

Point Queues::End(const std::shared_ptr<Stream>& stream) {
  std::lock_guard lock(mu_);
  return {stream, stream->enqueued_, stream->last_enqueued_};
}

bool Queues::IsDone(const Point& point) {
  std::unique_lock lock(mu_);
  if (point.stream == nullptr) return true;
  if (point.stream->done_ < point.position) {
    // Who polls must see it done some day.
    if (!Advance(point.stream, &lock)) AdvanceAny(&lock);
    if (point.stream->done_ < point.position) return false;
  }
  if (point.last != nullptr) HostLearns(point.last->Clock());
  return true;
}

void Queues::Finish(const Point& point) {
  if (point.stream == nullptr) return;
  std::unique_lock lock(mu_);
  while (point.stream->done_ < point.position) {
    if (Advance(point.stream, &lock) || point.stream->done_ >= point.position) continue;
    if (!AdvanceAny(&lock)) changed_.wait_for(lock, kOutsidePoll);
  }
  if (point.last != nullptr) HostLearns(point.last->Clock());
}

// What waits for another stream of this process does not tell: any of them may be it.
bool Queues::AdvanceAny(std::unique_lock<std::mutex>* lock) {
  const std::vector<std::shared_ptr<Stream>> streams = streams_;
  return std::any_of(streams.begin(), streams.end(),
                     [&](const auto& stream) { return Advance(stream, lock); });
}

void Queues::FinishDevice(int device) {
  std::vector<Point> points;
  {
    std::lock_guard lock(mu_);
    for (const auto& stream : streams_) {
      if (stream->device == device) {
        points.push_back({stream, stream->enqueued_, stream->last_enqueued_});
      }
    }
    std::shuffle(points.begin(), points.end(), random_);
  }
  for (const Point& point : points) Finish(point);
}

void Queues::Seed(uint64_t seed) {
  std::lock_guard lock(mu_);
  random_.seed(seed);
}

bool Queues::Advance(const std::shared_ptr<Stream>& stream, std::unique_lock<std::mutex>* lock) {
  if (stream->busy_ || stream->items_.empty()) return false;
  for (const Point& point : stream->items_.front().after) {
    if (point.stream->done_ < point.position) return Advance(std::shared_ptr(point.stream), lock);
  }
  Stream::Item& item = stream->items_.front();  // stays: only this thread takes it out
  if (!std::exchange(item.begun, true)) {
    if (stream->last_done_ != nullptr) item.operation->Learn(stream->last_done_->Clock());
    for (const Point& point : item.after) {
      if (point.last != nullptr) item.operation->Learn(point.last->Clock());
    }
  }
  stream->busy_ = true;
  lock->unlock();
  const bool was_inside = std::exchange(inside_work, true);
  const auto outer = std::exchange(StreamOperation::Current(), item.operation.get());
  const Progress progress = item.work();
  StreamOperation::Current() = outer;
  inside_work = was_inside;
  lock->lock();
  stream->busy_ = false;
  if (progress == Progress::kDone) {
    stream->last_done_ = std::move(item.operation);
    stream->items_.pop_front();
    ++stream->done_;
    changed_.notify_all();
  }
  return progress == Progress::kDone;
}

}  // namespace trireme::gpusim
