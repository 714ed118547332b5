#include "server/net/acceptor.h"

#include <gtest/gtest.h>

#include <boost/asio/connect.hpp>

namespace trireme {
namespace {

using boost::asio::ip::tcp;

boost::system::error_code Connect(Acceptor::Io* io, int port) {
  boost::system::error_code error;
  tcp::socket client(*io);
  client.connect({boost::asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(port)}, error);
  return error;
}

TEST(BoundPort, RefusesConnectionsUntilAnAcceptorListens) {
  Acceptor::Io io;
  BoundPort bound = BoundPort::Bind("127.0.0.1", 0).value();
  const int port = bound.port();
  ASSERT_GT(port, 0);
  EXPECT_EQ(Connect(&io, port), boost::asio::error::connection_refused);
  const auto acceptor = Acceptor::Listen(&io, std::move(bound)).value();
  EXPECT_EQ(acceptor->port(), port);
  EXPECT_FALSE(Connect(&io, port));  // the backlog takes it
}

TEST(BoundPort, AddressThatSomebodyListensAtIsTaken) {
  Acceptor::Io io;
  const auto acceptor = Acceptor::Listen(&io, BoundPort::Bind("127.0.0.1", 0).value()).value();
  const absl::Status status = BoundPort::Bind("127.0.0.1", acceptor->port()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

TEST(BoundPort, WrongAddressesAreRefused) {
  for (const auto& [host, port] : {std::pair("203.0.113.1", 0), std::pair("127.0.0.1", 70000),
                                   std::pair("127.0.0.1", -1), std::pair("no.such.invalid", 0)}) {
    EXPECT_EQ(BoundPort::Bind(host, port).status().code(), absl::StatusCode::kInvalidArgument)
        << host << " " << port;
  }
}

}  // namespace
}  // namespace trireme
