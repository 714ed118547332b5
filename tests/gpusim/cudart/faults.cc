#include "tests/gpusim/cudart/faults.h"

#include <charconv>
#include <cstdio>
#include <string>

#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

struct Known {
  std::string_view name;
  FaultKind kind;
  FaultPoint point;
};
constexpr Known kKnown[] = {
    {"alloc", FaultKind::kAllocation, FaultPoint::kAllocation},
    {"launch", FaultKind::kLaunch, FaultPoint::kLaunch},
    {"sticky", FaultKind::kSticky, FaultPoint::kKernel},
    {"loss", FaultKind::kDeviceLoss, FaultPoint::kKernel},
    {"slow", FaultKind::kSlowRank, FaultPoint::kCollective},
    {"hang", FaultKind::kHungRank, FaultPoint::kCollective},
    {"nccl", FaultKind::kNcclCall, FaultPoint::kNccl},
    {"cublaslt", FaultKind::kCublasLtCall, FaultPoint::kCublasLt},
};

const Known& Of(FaultKind kind) {
  for (const Known& known : kKnown) {
    if (known.kind == kind) return known;
  }
  return kKnown[0];
}

template <typename T>
bool ReadNumber(std::string_view text, T* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

bool Parse(std::string_view text, FaultPlan* plan) {
  const size_t mark = text.find_first_of("@%");
  if (mark == std::string_view::npos) return false;
  bool named = false;
  for (const Known& known : kKnown) {
    if (known.name != text.substr(0, mark)) continue;
    plan->kind = known.kind;
    named = true;
  }
  std::string_view number = text.substr(mark + 1);
  if (const size_t slash = number.find('/'); slash != std::string_view::npos) {
    if (!ReadNumber(number.substr(slash + 1), &plan->device) || plan->device < 0) return false;
    number = number.substr(0, slash);
  }
  uint64_t* const count = text[mark] == '@' ? &plan->call : &plan->one_in;
  return named && ReadNumber(number, count) && *count != 0;
}

}  // namespace

absl::StatusOr<std::vector<FaultPlan>> ParseFaults(std::string_view text) {
  std::vector<FaultPlan> plans;
  for (const auto part : absl::StrSplit(ToAbsl(text), ',', absl::SkipEmpty())) {
    if (!Parse(FromAbsl(part), &plans.emplace_back())) {
      return absl::InvalidArgumentError(part);
    }
  }
  return plans;
}

void Faults::Add(const FaultPlan& plan) {
  std::lock_guard lock(mu_);
  plans_.push_back({plan, 0});
}

void Faults::Clear() {
  std::lock_guard lock(mu_);
  plans_.clear();
}

void Faults::Seed(uint64_t seed) {
  std::lock_guard lock(mu_);
  random_.seed(seed);
}

std::optional<FaultKind> Faults::Next(FaultPoint point, int device) {
  std::lock_guard lock(mu_);
  std::optional<FaultKind> fault;
  for (Counted& counted : plans_) {
    const FaultPlan& plan = counted.plan;
    const Known& known = Of(plan.kind);
    if (known.point != point || (plan.device >= 0 && plan.device != device)) continue;
    ++counted.calls;
    const bool befalls = plan.call != 0 ? counted.calls == plan.call : random_() % plan.one_in == 0;
    if (!befalls || fault.has_value()) continue;
    fault = plan.kind;
    std::fprintf(stderr, "gpusim: fault on demand: %s, call %llu, device %d\n",
                 std::string(known.name).c_str(), static_cast<unsigned long long>(counted.calls),
                 device);
  }
  return fault;
}

}  // namespace trireme::gpusim
