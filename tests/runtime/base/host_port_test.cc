#include "runtime/base/host_port.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(HostPort, Ipv6StandsInBrackets) {
  EXPECT_EQ(HostPort("127.0.0.1", 8000), "127.0.0.1:8000");
  EXPECT_EQ(HostPort("localhost", 8000), "localhost:8000");
  EXPECT_EQ(HostPort("::1", 8000), "[::1]:8000");
}

}  // namespace
}  // namespace trireme
