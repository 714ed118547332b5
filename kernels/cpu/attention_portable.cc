#include "kernels/cpu/simd_portable.h"
// The vector comes first.
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {

void FillAttentionPortable(Kernels* table) { FillAttention(table); }

}  // namespace trireme::cpu
