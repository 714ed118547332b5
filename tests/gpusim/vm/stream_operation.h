// What streams execute, and what each operation knows of the others: kernels, copies, whatever else
// touches memory.
//
// A stream's operations have positions, from 1 on. A StreamClock holds, for each stream, the
// position up to which its operations are known to have come before. It grows along streams,
// through events and through the host, whose own clock each operation gets when it is enqueued;
// and, between kernels that run at the same time, through strong accesses to one place
// (stream_order.h).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::gpusim {

class StreamClock {
 public:
  uint32_t Of(uint32_t stream) const { return stream < known_.size() ? known_[stream] : 0; }
  void Reach(uint32_t stream, uint32_t position);
  void Join(const StreamClock& other);
  bool Covers(const StreamClock& other) const;

 private:
  std::vector<uint32_t> known_;
};

// The host's clock: one for all of its threads, so that an error may be missed, and none is made
// up. Thread-safe.
StreamClock HostClock();
void HostLearns(const StreamClock& clock);

// Nodes of one graph: which of them come before each. Null: they follow one another.
using GraphAncestors = std::shared_ptr<const std::vector<std::vector<bool>>>;

// Where an operation stands.
struct OperationPlace {
  uint32_t stream = 0, position = 0;  // stream 0: of none, known to all
  uint32_t node = 0;                  // of the graph that was launched there
};

// Thread-safe. Made by std::make_shared.
class StreamOperation : public std::enable_shared_from_this<StreamOperation> {
 public:
  // It knows all others: of a launch without a stream.
  explicit StreamOperation(std::string_view name);
  StreamOperation(std::string_view name, uint32_t stream, uint32_t position, StreamClock known);
  // A node of the graph that `launch` executes.
  StreamOperation(std::string_view name, const StreamOperation& launch, uint32_t node,
                  GraphAncestors ancestors);
  StreamOperation(const StreamOperation&) = delete;
  StreamOperation& operator=(const StreamOperation&) = delete;

  // That of the work which this thread runs for a stream. Null: none.
  static StreamOperation*& Current();

  const std::string& name() const { return name_; }
  // Unique in the process, not 0, in the order of the first calls of this.
  uint32_t number();
  uint32_t stream() const { return place_.stream; }
  // Whether the operation of this number comes before this one, or is this one.
  bool Knows(uint32_t number) const { return number <= floor_ || KnowsMoreThanFloor(number); }
  uint32_t floor() const { return floor_; }  // all up to here are known
  void Learn(const StreamClock& clock);
  // All that its end tells: what it knows, and itself.
  StreamClock Clock() const;
  bool Covers(const StreamClock& clock) const;

  static constexpr uint32_t kMostOperations = (1u << 28) - 1;

 private:
  bool KnowsMoreThanFloor(uint32_t number) const;
  bool KnowsPlace(const OperationPlace& place) const;  // mu_ is held

  const std::string name_;
  const OperationPlace place_;
  const GraphAncestors ancestors_;
  const bool is_node_ = false, knows_all_ = false;
  std::once_flag numbered_;
  uint32_t number_ = 0;
  uint32_t floor_ = 0;  // most questions end at this
  mutable std::mutex mu_;
  StreamClock known_;  // guarded by mu_
};

// What a finding says of an operation: "kernel add (stream 3)". And the stream alone.
std::string DescribeOperation(uint32_t number);
uint32_t StreamOfOperation(uint32_t number);

}  // namespace trireme::gpusim
