#include "tests/gpusim/cudart/profile.h"

#include <cstdio>

namespace trireme::gpusim {
namespace {

double Ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 1.0 : static_cast<double>(part) / static_cast<double>(whole);
}
double NanosecondsEach(double seconds, uint64_t n) {
  return n == 0 ? 0 : 1e9 * seconds / static_cast<double>(n);
}
unsigned long long Long(uint64_t n) { return n; }

}  // namespace

void PrintProfile(std::string_view kernel, const Counters& c, double seconds, double matrix_share) {
  std::fprintf(stderr, "gpusim profile: %.*s\n", static_cast<int>(kernel.size()), kernel.data());
  std::fprintf(stderr, "  warp instructions  %llu (%.0f ns each)\n", Long(c.total()),
               1e9 * seconds / static_cast<double>(c.total() + 1));
  if (c.matrix != 0) {
    const uint64_t ordinary = c.total() - c.matrix;
    std::fprintf(stderr,
                 "    ordinary ones    %llu (%.0f ns each), of matrices %llu (%.0f ns each)\n",
                 Long(ordinary), NanosecondsEach(seconds * (1 - matrix_share), ordinary),
                 Long(c.matrix), NanosecondsEach(seconds * matrix_share, c.matrix));
  }
  for (size_t i = 0; i < c.instructions.size(); ++i) {
    if (c.instructions[i] == 0) continue;
    const std::string_view name = NameOf(static_cast<OpClass>(i));
    std::fprintf(stderr, "    %-10.*s       %llu\n", static_cast<int>(name.size()), name.data(),
                 Long(c.instructions[i]));
  }
  const uint64_t matrix = c.mma + c.wgmma + c.tcgen05;
  if (matrix != 0) {
    std::fprintf(stderr, "  mma %llu, wgmma %llu, tcgen05 %llu; %.2f other instructions each\n",
                 Long(c.mma), Long(c.wgmma), Long(c.tcgen05), Ratio(c.total() - matrix, matrix));
  }
  std::fprintf(stderr, "  global sectors     %llu, %.3f x the fewest possible\n",
               Long(c.global_sectors), Ratio(c.global_sectors, c.global_sectors_min));
  std::fprintf(stderr, "  shared waves       %llu, %.3f x the fewest possible\n",
               Long(c.shared_waves), Ratio(c.shared_waves, c.shared_waves_min));
  std::fprintf(stderr, "  bytes by cp.async  %llu, by TMA %llu\n", Long(c.cp_async_bytes),
               Long(c.tma_bytes));
}

}  // namespace trireme::gpusim
