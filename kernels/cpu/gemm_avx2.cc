#include "kernels/cpu/isa.h"

namespace trireme::cpu {

void FillGemmAvx2(Kernels* table) { FillGemmPortable(table); }

}  // namespace trireme::cpu
