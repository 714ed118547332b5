// The YAML file of --config: a flat mapping "http-port: 9000"; lists for settings that are lists.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/cli/setting.h"

namespace trireme {

using ConfigValues = std::map<std::string, std::vector<std::string>>;

// The texts of each key in the file. NOT_FOUND or INVALID_ARGUMENT names file and key: no YAML, no
// flat mapping, a key that is twice there or in no row of `schema` (the message has the closest
// one), a value that is empty or a list where the setting is none.
absl::StatusOr<ConfigValues> ReadConfigFile(const std::string& path,
                                            const std::vector<Setting>& schema);

}  // namespace trireme
