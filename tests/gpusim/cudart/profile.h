// What a launch did, for a person (TRIREME_GPUSIM_PROFILE=1).
#pragma once

#include <string_view>

#include "tests/gpusim/vm/counters.h"

namespace trireme::gpusim {

void PrintProfile(std::string_view kernel, const Counters& counters, double seconds,
                  double matrix_share);

}  // namespace trireme::gpusim
