// How fast this machine reads memory: what bounds decoding.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme {

// Bytes a second that `num_threads` threads read together from memory larger than the caches, in
// the best tenth of `duration`. RESOURCE_EXHAUSTED without that memory.
absl::StatusOr<int64_t> MeasureReadBandwidth(int num_threads, absl::Duration duration);

}  // namespace trireme
