#include "runtime/scheduler/waiting_queue.h"

namespace trireme {

bool MoreSenior::operator()(const LiveSequence* a, const LiveSequence* b) const {
  if (num_comparisons != nullptr) ++*num_comparisons;
  if (a->sequence->priority != b->sequence->priority) {
    return a->sequence->priority < b->sequence->priority;
  }
  return a->ticket < b->ticket;
}

void WaitingQueue::Insert(LiveSequence* live) {
  ++size_;
  num_prompt_tokens_ += live->sequence->num_prompt_tokens;
  CountNew(*live, 1);
  if (!live->sequence->paused) live->queue_position = order_.insert(order_.begin(), live);
}

void WaitingQueue::Remove(LiveSequence* live) {
  --size_;
  num_prompt_tokens_ -= live->sequence->num_prompt_tokens;
  CountNew(*live, -1);
  if (!live->sequence->paused) order_.erase(live->queue_position);
}

void WaitingQueue::CountNew(const LiveSequence& live, int sign) {
  if (live.started) return;
  num_new_ += sign;
  num_new_prompt_tokens_ += sign * live.sequence->num_prompt_tokens;
}

}  // namespace trireme
