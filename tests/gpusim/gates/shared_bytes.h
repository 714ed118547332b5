// The dynamic shared memory that gates/kernels.json names for a kernel: what its occupancy is
// counted with, and so what tests launch it with.
#pragma once

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace trireme::gpusim {

// `source`: "hopper_gemm.cu". TRIREME_SOURCE_DIR is the project's.
inline uint32_t GatedSharedBytes(const std::string& source) {
  std::ifstream file(TRIREME_SOURCE_DIR "/tests/gpusim/gates/kernels.json");
  std::stringstream text;
  text << file.rdbuf();
  for (const boost::json::value& kernel : boost::json::parse(text.str()).as_array()) {
    if (kernel.at("source").as_string() == "tests/gpusim/kernels/" + source) {
      return kernel.at("dynamic_shared_bytes").to_number<uint32_t>();
    }
  }
  ADD_FAILURE() << source << " is not in kernels.json";
  return 0;
}

}  // namespace trireme::gpusim
