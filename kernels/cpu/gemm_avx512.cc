#include "kernels/cpu/isa.h"

namespace trireme::cpu {

void FillGemmAvx512(Kernels* table) { FillGemmPortable(table); }

}  // namespace trireme::cpu
