// Whole small files that somebody names on a command line or puts into a model's folder: settings,
// keys, certificates, templates, JSON.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme {

// Ample for what people write: settings, keys, certificates, templates.
inline constexpr size_t kMaxSettingsBytes = 1 << 20;

// The content of a regular file; /dev/null is an empty one. Any other device, a pipe or a folder is
// refused, never waited for; of a file that is larger than `max_bytes` no more than that is read.
// `info` (may be null) gets the fstat(2) of the descriptor that was read, also when the content is
// refused. Errors name the path: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (not a regular
// file), RESOURCE_EXHAUSTED (larger), UNAVAILABLE (reading failed). Thread-safe.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes,
                                     struct stat* info = nullptr);

// Of at most kMaxSettingsBytes, of a setting called `flag`, which errors name, too.
absl::StatusOr<std::string> ReadSetting(const std::string& path, std::string_view flag);

}  // namespace trireme
