// What nvcc puts into an object for the device: a container of PTX texts and machine code.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace trireme::gpusim {

// The PTX texts of the fat binary behind `wrapper` (fatbinary_section.h: __fatBinC_Wrapper_t),
// which must not be compressed (nvcc --no-compress). They live as long as the object.
absl::StatusOr<std::vector<std::string_view>> PtxTextsOf(const void* wrapper);

// The text that a device of `architecture` ("sm_90a") would take: of those that may run there the
// one of the highest version. NOT_FOUND names what there is.
absl::StatusOr<std::string_view> ChoosePtx(const std::vector<std::string_view>& texts,
                                           std::string_view architecture);

}  // namespace trireme::gpusim
