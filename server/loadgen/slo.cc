#include "server/loadgen/slo.h"

#include <string>

#include "absl/strings/str_split.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/loadgen/parse.h"

namespace trireme::loadgen {

absl::StatusOr<Slo> Slo::Parse(std::string_view text) {
  Slo slo;
  for (const auto part : absl::StrSplit(ToAbsl(text), ',')) {
    const std::string_view bound = FromAbsl(part);
    const size_t equals = bound.find('=');
    const std::string_view name = bound.substr(0, equals);
    std::optional<absl::Duration>* const target = name == "ttft"  ? &slo.ttft
                                                  : name == "itl" ? &slo.itl
                                                  : name == "e2e" ? &slo.e2e
                                                                  : nullptr;
    if (target == nullptr || equals == std::string_view::npos) {
      return absl::InvalidArgumentError(
          StrCat("\"", Printable(bound), "\" is no bound; write ttft=500ms,itl=50ms,e2e=10s"));
    }
    if (target->has_value()) return absl::InvalidArgumentError(StrCat(name, " is there twice"));
    auto time = ParseTime(bound.substr(equals + 1));
    if (!time.ok()) return Annotate(time.status(), name);
    *target = *time;
  }
  return slo;
}

}  // namespace trireme::loadgen
