#include "kernels/cpu/simd_portable.h"
// The vector comes first.
#include "kernels/cpu/isa.h"
#include "kernels/cpu/rows_impl.h"

namespace trireme::cpu {

void FillRowsPortable(Kernels* table) { FillRows(table); }

}  // namespace trireme::cpu
