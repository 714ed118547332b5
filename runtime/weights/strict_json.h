// JSON of model files: whole text, no duplicate keys (two readers would disagree about them),
// bounded depth.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme {

// INVALID_ARGUMENT: not JSON, not an object, deeper than 32, a key twice in one object.
absl::StatusOr<boost::json::object> ParseStrictJson(std::string_view text);

}  // namespace trireme
