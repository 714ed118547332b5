#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "tests/gpusim/ptx/module.h"

namespace trireme::gpusim::ptx {

// Parses the text of one module. What it does not know is INVALID_ARGUMENT with the line.
absl::StatusOr<Module> Parse(std::string_view source);

}  // namespace trireme::gpusim::ptx
