// The numbers that name things.
#pragma once

#include <cstdint>

namespace trireme {

using TokenId = int32_t;     // index into the vocabulary, >= 0
using BlockId = int32_t;     // index of a KV block, >= 0
using RequestId = uint64_t;  // one engine sequence; unique for the life of the engine, never 0

}  // namespace trireme
