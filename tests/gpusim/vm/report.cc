#include "tests/gpusim/vm/report.h"

#include <tuple>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::gpusim {

std::string_view NameOf(FindingKind kind) {
  constexpr std::string_view kNames[] = {"out of bounds",
                                         "misaligned",
                                         "uninitialised register",
                                         "uninitialised shared memory",
                                         "uninitialised global memory",
                                         "uninitialised tensor memory",
                                         "race in shared memory",
                                         "race in global memory",
                                         "missing order between streams",
                                         "race in tensor memory",
                                         "missing proxy fence",
                                         "missing wgmma.fence",
                                         "missing tcgen05.fence",
                                         "data in flight",
                                         "barrier misuse",
                                         "deadlock",
                                         "divergence",
                                         "bad operand",
                                         "assertion"};
  static_assert(std::size(kNames) == static_cast<size_t>(FindingKind::kCount));
  return kNames[static_cast<size_t>(kind)];
}

std::string Finding::ToString() const {
  if (instruction.empty()) return StrCat(NameOf(kind), ": ", what, "\n    ", kernel);
  return StrCat(NameOf(kind), ": ", what, "\n    ", kernel, " at ", file, ":", line, " (PTX line ",
                ptx_line, ": ", instruction, "), CTA (", ctaid[0], ", ", ctaid[1], ", ", ctaid[2],
                "), warp ", warp, ", lane ", lane);
}

void Report::Add(Finding finding) {
  std::lock_guard lock(mu_);
  ++total_;
  if (!known_.emplace(finding.kind, finding.kernel, finding.ptx_line).second) return;
  if (sink_) sink_(finding);
  findings_.push_back(std::move(finding));
}

std::vector<Finding> Report::Take() {
  std::lock_guard lock(mu_);
  known_.clear();
  total_ = 0;
  return std::exchange(findings_, {});
}

uint64_t Report::total() const {
  std::lock_guard lock(mu_);
  return total_;
}

}  // namespace trireme::gpusim
