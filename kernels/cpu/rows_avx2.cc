#include "kernels/cpu/simd_avx2.h"
// The vector comes first.
#include "kernels/cpu/isa.h"
#include "kernels/cpu/rows_impl.h"

namespace trireme::cpu {

void FillRowsAvx2(Kernels* table) { FillRows(table); }

}  // namespace trireme::cpu
