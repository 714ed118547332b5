#include "tests/gpusim/vm/stream_operation.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <set>
#include <unordered_map>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

struct Entry {
  OperationPlace place;
  const std::string* name = nullptr;
};

// All operations by number. They stay: memory remembers them. Read without a lock: whoever has a
// number got it through memory, under that place's lock, after Add() had returned.
class Operations {
 public:
  static Operations& Get() {
    static Operations* const operations = new Operations();
    return *operations;
  }
  const Entry& Of(uint32_t number) const {
    return chunks_[number / kChunk].load(std::memory_order_acquire)[number % kChunk];
  }
  // `knows` decides how far the floor goes: that of its stream, and of nodes for themselves.
  template <typename F>
  std::pair<uint32_t, uint32_t> Add(std::string_view name, const OperationPlace& place,
                                    bool is_node, F&& knows) {
    std::lock_guard lock(mu_);
    TRIREME_CHECK(last_ < StreamOperation::kMostOperations);
    const uint32_t number = ++last_;
    auto& chunk = chunks_[number / kChunk];
    if (chunk.load(std::memory_order_relaxed) == nullptr) {
      chunk.store(new Entry[kChunk], std::memory_order_release);
    }
    chunk.load(std::memory_order_relaxed)[number % kChunk] = {place, &*names_.emplace(name).first};
    uint32_t& of_stream = floors_[place.stream];
    uint32_t floor = of_stream;
    while (floor + 1 < number && knows(Of(floor + 1).place)) ++floor;
    if (!is_node) of_stream = floor;
    return {number, floor};
  }

 private:
  static constexpr uint32_t kChunk = 1 << 14;

  std::array<std::atomic<Entry*>, (StreamOperation::kMostOperations + 1) / kChunk> chunks_{};
  std::mutex mu_;
  uint32_t last_ = 0;                              // guarded by mu_, as all below
  std::set<std::string> names_;                    // few, and each is kept once
  std::unordered_map<uint32_t, uint32_t> floors_;  // by stream
};

struct Host {
  std::mutex mu;
  StreamClock clock;
};
Host& TheHost() {
  static Host* const host = new Host();
  return *host;
}

}  // namespace

void StreamClock::Reach(uint32_t stream, uint32_t position) {
  if (stream >= known_.size()) known_.resize(stream + 1);
  known_[stream] = std::max(known_[stream], position);
}

void StreamClock::Join(const StreamClock& other) {
  if (other.known_.size() > known_.size()) known_.resize(other.known_.size());
  for (size_t i = 0; i < other.known_.size(); ++i) known_[i] = std::max(known_[i], other.known_[i]);
}

bool StreamClock::Covers(const StreamClock& other) const {
  for (uint32_t stream = 0; stream < other.known_.size(); ++stream) {
    if (other.known_[stream] > Of(stream)) return false;
  }
  return true;
}

StreamClock HostClock() {
  Host& host = TheHost();
  std::lock_guard lock(host.mu);
  return host.clock;
}

void HostLearns(const StreamClock& clock) {
  Host& host = TheHost();
  std::lock_guard lock(host.mu);
  host.clock.Join(clock);
}

StreamOperation::StreamOperation(std::string_view name) : name_(name), knows_all_(true) {}

StreamOperation::StreamOperation(std::string_view name, uint32_t stream, uint32_t position,
                                 StreamClock known)
    : name_(name), place_{stream, position, 0}, known_(std::move(known)) {
  known_.Reach(stream, position - 1);
}

StreamOperation::StreamOperation(std::string_view name, const StreamOperation& launch,
                                 uint32_t node, GraphAncestors ancestors)
    : name_(name),
      // A graph in a graph is one node of the outer one.
      place_{launch.place_.stream, launch.place_.position,
             launch.is_node_ ? launch.place_.node : node},
      ancestors_(launch.is_node_ ? launch.ancestors_ : std::move(ancestors)),
      is_node_(true) {
  std::lock_guard lock(launch.mu_);
  known_ = launch.known_;
}

StreamOperation*& StreamOperation::Current() {
  thread_local StreamOperation* current = nullptr;
  return current;
}

uint32_t StreamOperation::number() {
  std::call_once(numbered_, [this] {
    std::lock_guard lock(mu_);
    const auto [number, floor] = Operations::Get().Add(
        name_, place_, is_node_,
        [this](const OperationPlace& place) { return knows_all_ || KnowsPlace(place); });
    number_ = number;
    floor_ = knows_all_ ? std::numeric_limits<uint32_t>::max() : floor;
  });
  return number_;
}

bool StreamOperation::KnowsMoreThanFloor(uint32_t number) const {
  if (number == number_) return true;
  const OperationPlace& place = Operations::Get().Of(number).place;
  std::lock_guard lock(mu_);
  return KnowsPlace(place);
}

bool StreamOperation::KnowsPlace(const OperationPlace& place) const {
  if (place.stream == 0) return true;
  if (place.stream == place_.stream && place.position == place_.position) {
    return place.node == place_.node || ancestors_ == nullptr ||
           (*ancestors_)[place_.node][place.node];
  }
  return place.position <= known_.Of(place.stream);
}

void StreamOperation::Learn(const StreamClock& clock) {
  std::lock_guard lock(mu_);
  known_.Join(clock);
}

StreamClock StreamOperation::Clock() const {
  std::lock_guard lock(mu_);
  StreamClock clock = known_;
  clock.Reach(place_.stream, place_.position);
  return clock;
}

bool StreamOperation::Covers(const StreamClock& clock) const {
  std::lock_guard lock(mu_);
  return knows_all_ || known_.Covers(clock);
}

std::string DescribeOperation(uint32_t number) {
  const Entry& entry = Operations::Get().Of(number);
  if (entry.place.stream == 0) return *entry.name;
  return StrCat(*entry.name, " of stream ", entry.place.stream);
}

uint32_t StreamOfOperation(uint32_t number) { return Operations::Get().Of(number).place.stream; }

}  // namespace trireme::gpusim
