// Collective operations order the streams of their ranks, as far as these are of this process.
#pragma once

#include <string>

#include "tests/gpusim/vm/stream_operation.h"

namespace trireme::gpusim {

// A rank of the communicator begins: the others will know what it knows. And it has ended: it knows
// what all of them did that had begun. That is more than a broadcast, or a send, orders: an error
// may be missed by that, none is made up. Thread-safe.
void RankBegins(const std::string& communicator, const StreamOperation& operation);
void RankEnds(const std::string& communicator, StreamOperation* operation);

}  // namespace trireme::gpusim
