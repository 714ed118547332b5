#include "kernels/cpu/simd_avx2.h"
// The vector comes first.
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {

void FillAttentionAvx2(Kernels* table) { FillAttention(table); }

}  // namespace trireme::cpu
