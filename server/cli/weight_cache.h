// --weight-cache: where the packed weights of a model are kept (runtime/backend/packed_weights.h).
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace trireme {

// The file for the model at `model`, one for each path of a model; empty: none is kept. `setting`
// is "off", "auto" (beside models that lie in the folder `cache`, as pull::CacheFolder understands
// it, for no others) or a folder. INVALID_ARGUMENT for a folder that is not there.
absl::StatusOr<std::string> PackedWeightsFile(const std::string& setting, const std::string& model,
                                              const std::string& cache);

}  // namespace trireme
