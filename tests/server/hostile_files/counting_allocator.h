// Counts what operator new gives out in this test program.
#pragma once

#include <cstdint>

namespace trireme {

// The most bytes that were alive at the same time since the last call of StartCounting, over those
// alive at that call.
void StartCounting();
int64_t PeakBytes();

}  // namespace trireme
