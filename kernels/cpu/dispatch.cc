#include <cpuid.h>

#include <array>
#include <cstdlib>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/isa.h"
#include "runtime/base/log.h"

namespace trireme::cpu {
namespace {

using Fill = void (*)(Kernels*);

// Best first.
struct Isa {
  std::string_view name;
  bool (*supported)();
  Fill gemm, rows, attention;
};

// Not a name that every compiler's __builtin_cpu_supports knows.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
// __builtin_cpu_supports also asks the operating system (XGETBV) whether it saves the wide
// registers.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c() &&
         __builtin_cpu_supports("bmi2");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
bool Always() { return true; }

constexpr std::array<Isa, 3> kIsas = {{
    {"avx512", HasAvx512, FillGemmAvx512, FillRowsAvx512, FillAttentionAvx512},
    {"avx2", HasAvx2, FillGemmAvx2, FillRowsAvx2, FillAttentionAvx2},
    {"portable", Always, FillGemmPortable, FillRowsPortable, FillAttentionPortable},
}};

Kernels MakeTable(const Isa& isa) {
  Kernels table = {};
  table.name = isa.name;
  isa.gemm(&table);
  isa.rows(&table);
  isa.attention(&table);
  return table;
}

}  // namespace

const Kernels* FindKernels(std::string_view name) {
  // Only of supported sets: even filling a table may use the set's instructions.
  static const std::array<Kernels, kIsas.size()> tables = [] {
    std::array<Kernels, kIsas.size()> all = {};
    for (size_t i = 0; i < kIsas.size(); ++i) {
      if (kIsas[i].supported()) all[i] = MakeTable(kIsas[i]);
    }
    return all;
  }();
  for (const Kernels& table : tables) {
    if (!name.empty() && table.name == name) return &table;
  }
  return nullptr;
}

const Kernels& BestKernels() {
  static const Kernels* const best = [] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing changes the environment
    if (const char* wanted = std::getenv("TRIREME_CPU_ISA")) {
      if (const Kernels* kernels = FindKernels(wanted)) return kernels;
      Log(LogLevel::kWarning, "TRIREME_CPU_ISA names no instruction set of this CPU",
          {{"value", std::string_view(wanted)}});
    }
    for (const Isa& isa : kIsas) {
      if (const Kernels* kernels = FindKernels(isa.name)) return kernels;
    }
    std::abort();  // not reached: "portable" is always there
  }();
  return *best;
}

}  // namespace trireme::cpu
