// Which PTX registers can share a place in a warp's register file. nvcc names a new register for
// almost every value: without sharing a warp would need hundreds of kilobytes.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/program.h"

namespace trireme::gpusim {

struct RegisterPlan {
  // By register: the place it got. Registers of one place have the same size, so that lane i of
  // both is the same bytes.
  std::vector<uint32_t> place;
  std::vector<uint32_t> place_bytes;  // by place
};

// `ops` name register r as Slot::index r, below bytes.size(); what lies above is no register.
// bytes: of each register in the file.
//
// A register that is read on some path before anything was written keeps a place of its own, so
// that reading it is noticed; so do the registers of asynchronous instructions (wgmma, tcgen05).
// Every other one is written before each read, which makes what its place held before invisible.
// Lanes that diverge do not disturb each other: a place has its own bytes for each lane.
RegisterPlan PlanRegisters(const std::vector<Op>& ops, const std::vector<uint32_t>& bytes);

}  // namespace trireme::gpusim
