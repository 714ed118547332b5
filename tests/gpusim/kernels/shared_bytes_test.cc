// The gates count occupancy with the shared memory that launches take.
#include "tests/gpusim/gates/shared_bytes.h"

#include <gtest/gtest.h>

#include "tests/gpusim/kernels/attention.h"
#include "tests/gpusim/kernels/hopper_gemm.h"

namespace trireme::gpusim {
namespace {

TEST(SharedBytesTest, TheGatesKnowWhatTheLaunchesTake) {
  EXPECT_EQ(GatedSharedBytes("attention.cu"), kAttentionSharedBytes);
  EXPECT_EQ(GatedSharedBytes("hopper_gemm.cu"), hopper::kGemmSharedBytes);
}

}  // namespace
}  // namespace trireme::gpusim
