// mbarrier objects (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").
//
// A phase is complete when no arrival and no byte is missing. The copies that complete on an
// mbarrier are writes of its agent at the time of their phase: who has waited for that phase has
// seen them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpusim/vm/clock.h"

namespace trireme::gpusim {

class Cta;
class Warp;
struct Op;
struct SharedPlace;

// When somebody did something.
struct Stamp {
  uint32_t agent = 0;
  int lane = 0;
  uint32_t time = 0;  // 0: never
};

// Shared memory that an asynchronous operation has written or read; it ends with the phase.
struct Landed {
  Cta* cta = nullptr;
  uint32_t at = 0, size = 0;
  bool async_proxy = true;  // false: cp.async
  bool is_read = false;
};

struct Mbarrier {
  static constexpr int64_t kMaxCount = (1 << 20) - 1;  // of arrivals, and of bytes under way

  int64_t expected = 0, pending = 0;  // arrivals
  int64_t bytes = 0;                  // announced and not yet come, or the reverse
  uint32_t phase = 0;                 // phases that are complete
  uint32_t agent = 0;
  Stamp init;
  bool init_fenced = false;    // the async proxy sees it (fence.mbarrier_init)
  std::vector<Landed> landed;  // in this phase
  uint32_t last_copy = 0;      // the time of the last phase that had any
  Knowledge gathered;
  Knowledge released;  // by the phases that are complete
};

// How often a warp was told that a phase is not complete.
struct MbarrierPolls {
  uint32_t phase = 0;
  int in_vain = 0;
};

// The mbarrier at `place` as `lane` may use it. Null, reported and the launch aborted, if there is
// none. `through_async_proxy`: a copy will complete on it.
Mbarrier* FindMbarrier(Warp& warp, const Op& op, int lane, const SharedPlace& place,
                       bool through_async_proxy);

// `count` arrivals on behalf of `lane`; what they release must be in `gathered` already.
void Arrive(Warp& warp, const Op& op, int lane, Mbarrier* mbarrier, int64_t count);
// Ends the phase if nothing is missing.
void CompleteIfDone(Mbarrier* mbarrier);
void ReportMisuse(Warp& warp, const Op& op, int lane, std::string what);
// Announces bytes, or (negative) reports them as come.
void AddBytes(Warp& warp, const Op& op, int lane, Mbarrier* mbarrier, int64_t bytes);

}  // namespace trireme::gpusim
