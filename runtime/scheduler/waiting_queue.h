// The sequences that hold no blocks, in the order in which they will be taken up. Which tenant's
// turn it is, is decided here and nowhere else: the scheduler only asks for the front.
#pragma once

#include <cstdint>
#include <memory>
#include <set>

#include "runtime/scheduler/sequence.h"

namespace trireme {

struct LiveSequence;

// The one order of the scheduler, of waiting and running sequences alike: lower priority number
// first, then first come first served. A preempted sequence keeps its ticket and so goes back
// before everything of its priority that came later.
struct MoreSenior {
  bool operator()(const LiveSequence* a, const LiveSequence* b) const;
  uint64_t* num_comparisons = nullptr;
};

// A sequence that the scheduler owns, and where it stands.
struct LiveSequence {
  std::unique_ptr<Sequence> sequence;
  uint64_t ticket = 0;          // order of arrival
  uint64_t planned_for = 0;     // the last step that has a row of it, if one has
  int next_row = 0;             // where PlanAhead put it, if it is planned for the next step
  int max_length = 0;           // tokens with which it ends
  int next_prompt_logprob = 1;  // index of the first token whose prompt logprob is still due
  bool running = false;         // holds blocks; otherwise in the waiting queue
  bool started = false;         // has been running before
  Ending ending;                // set while a step computes it: ends so at its Commit
  int blocks_needed = 0;        // to be taken up, as of the last attempt; 0: not tried yet
  std::set<LiveSequence*, MoreSenior>::iterator queue_position;  // while waiting and not paused

  int num_tokens() const { return static_cast<int>(sequence->tokens.size()); }
  int num_uncomputed() const { return num_tokens() - sequence->num_computed; }
};

class WaitingQueue {
 public:
  // O(log n); O(1) for a sequence that goes to the front.
  void Insert(LiveSequence* live);
  void Remove(LiveSequence* live);  // O(1)
  // The next to be taken up; null when there is none. Paused sequences are counted but not in the
  // order. O(1).
  LiveSequence* front() const { return order_.empty() ? nullptr : *order_.begin(); }

  int size() const { return size_; }
  int64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  // Of those that have never run: what the bounds of the queue count. A preempted sequence was let
  // in long ago.
  int num_new() const { return num_new_; }
  int64_t num_new_prompt_tokens() const { return num_new_prompt_tokens_; }
  // Comparisons of two sequences so far: the cost of the queue, for tests.
  uint64_t num_comparisons() const { return *num_comparisons_; }

 private:
  void CountNew(const LiveSequence& live, int sign);

  int size_ = 0, num_new_ = 0;
  int64_t num_prompt_tokens_ = 0, num_new_prompt_tokens_ = 0;
  std::unique_ptr<uint64_t> num_comparisons_ = std::make_unique<uint64_t>(0);
  std::set<LiveSequence*, MoreSenior> order_{MoreSenior{num_comparisons_.get()}};
};

}  // namespace trireme
