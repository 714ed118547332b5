// Arithmetic of collectives.
#pragma once

#include <nccl.h>

#include <cstddef>

namespace trireme::gpusim {

size_t BytesOf(ncclDataType_t type);  // 0: no such type
bool IsReduction(ncclRedOp_t op);

// into[i] = into[i] op from[i], rounded to the type: ranks are added one after the other, in their
// order, so that all ranks have the same bits.
void Reduce(ncclDataType_t type, ncclRedOp_t op, const std::byte* from, size_t count,
            std::byte* into);
// What ncclAvg does to the sum in the end.
void DivideBy(ncclDataType_t type, int num_ranks, size_t count, std::byte* values);

}  // namespace trireme::gpusim
