// The lanes that an instruction with a member mask waits for.
#pragma once

#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {

// The mask in `slot`, without lanes that have ended. A lane that it leaves out, or whose mask
// differs, is reported.
LaneMask MemberMask(Warp& warp, const Op& op, Slot slot, LaneMask active);
// Whether all members are here; if not the operation has to be tried again.
bool Together(Warp& warp, const Op& op, LaneMask members, LaneMask active);

}  // namespace trireme::gpusim
