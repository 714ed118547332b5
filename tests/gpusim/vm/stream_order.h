// Order between operations of streams in global memory: launches, copies, on any device.
//
// A row's records (global_order.h) are those of the launch that was there last. When another one
// comes, they are folded into stamps: who wrote last, and two that have read since; of the whole
// row or, where parts were touched, of each byte of a word. If the newcomer knows all of these
// (stream_operation.h), the row is its own from then on, and costs nothing more. Else the row is
// contested: each access to it is checked against the stamps.
//
// Kernels that run at the same time may order themselves: strong accesses (atomic, volatile,
// relaxed, acquire, release) are in order with everything, and who reads a row strongly has seen
// all of those that have written it strongly. That is more than the memory model says: an error may
// be missed by that, none is made up. Page-locked memory is where kernels and the host tell each
// other: strong accesses there pass on the host's clock, too.
#pragma once

#include <cstdint>

#include "tests/gpusim/vm/device_memory.h"
#include "tests/gpusim/vm/shadow.h"
#include "tests/gpusim/vm/stream_operation.h"

namespace trireme::gpusim {

struct GlobalAccessor;

// An operation and the bytes of a word, or 0.
struct WordStamp {
  uint32_t operation : 28, bytes : 4;
};
struct WordStamps {
  WordStamp writer, readers[2];
};
// Of a row. Zeros: nobody has been there.
struct RowStamps {
  uint32_t writer, readers[2];  // by_words: `writer` is the latest of all of its words'
  uint32_t releaser : 31;       // who has written it strongly, the last one
  uint32_t by_words : 1;
};

// All below: the place's MemoryLock is held.

// A launch comes to a row that was another one's. False: it is contested.
bool EnterRow(const GlobalCells& cells, uint64_t row, const GlobalAccessor& who);
// An access to a contested row. True: it is not ordered; *fault says how.
bool CheckContested(const GlobalCells& cells, uint64_t address, uint64_t size, bool writes,
                    const GlobalAccessor& who, Fault* fault);
// A strong write to a row of which it is not the last releaser.
void ReleaseRow(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who);

// What copies and libraries do: takes the locks itself.
enum class RangeUse : uint8_t { kRead, kWrite, kFree };
// True: bytes of [address, address + size), an allocation's, are not in order; *fault says how.
bool CheckRange(const DeviceMemory& memory, uint64_t address, uint64_t size, RangeUse use,
                StreamOperation& operation, Fault* fault);

}  // namespace trireme::gpusim
