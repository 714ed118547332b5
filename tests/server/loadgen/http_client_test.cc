// Answers that no sane server gives, over real sockets: each is an error of the right kind, soon,
// and the next request is not harmed by it.
#include "server/loadgen/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <future>
#include <memory>

#include "tests/server/loadgen/socket_server.h"

namespace trireme::loadgen {
namespace {

using ::testing::HasSubstr;

class HttpClientTest : public testing::Test {
 protected:
  void Connect(SocketServer::Serve serve) {
    Disconnect();
    server_ = std::make_unique<SocketServer>(std::move(serve));
    TargetOptions options;
    options.model = "mock";
    const Target target = *ParseTarget(StrCat("http://127.0.0.1:", server_->port()));
    auto client = MakeHttpClient(&io_, target, &options, std::chrono::minutes(1));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }
  ~HttpClientTest() override { Disconnect(); }
  // Closes the connections that the server's threads read from.
  void Disconnect() {
    client_.reset();
    io_.restart();
    io_.poll();  // cancelled handlers hold connections
    server_.reset();
  }

  Outcome Ask(size_t prompt_bytes = 10) {
    std::optional<Outcome> result;
    const Request request{.messages = {{"user", std::string(prompt_bytes, 'x')}}, .max_tokens = 4};
    client_->Send(request, std::chrono::steady_clock::now(),
                  [&](Outcome outcome) { result = std::move(outcome); });
    io_.restart();
    while (!result) io_.run_one();
    return *std::move(result);
  }
  // The one answer of every connection is `bytes`, then the client must go: it waits for no more.
  Outcome AskOneThatSays(const std::string& bytes) {
    Connect([=](Peer& peer, int) {
      peer.Read();
      peer.Write(bytes);
      EXPECT_TRUE(peer.WaitForClose());
    });
    return Ask();
  }

  boost::asio::io_context io_{1};
  std::unique_ptr<SocketServer> server_;
  std::unique_ptr<Client> client_;
};

const std::string kHead(kStreamHead);
const std::string kWhole = kHead + TextEvent("a") + StreamEnd();

void ServeWholeAnswers(Peer& peer) {
  while (!peer.Read().empty()) peer.Write(kWhole);
}

TEST_F(HttpClientTest, ARequestThatMetAClosedConnectionIsSentAgainAndSaysSo) {
  Connect([](Peer& peer, int connection) {
    peer.Read();
    peer.Write(kWhole);
    if (connection > 0) return ServeWholeAnswers(peer);
    peer.Read();  // as if it had timed out while this was on its way
    peer.Reset();
  });
  EXPECT_FALSE(Ask().resent);
  const Outcome second = Ask();
  EXPECT_TRUE(second.ok()) << second.error;
  EXPECT_TRUE(second.resent);
  EXPECT_EQ(second.token_events, 1);
  EXPECT_FALSE(Ask().resent);
  EXPECT_EQ(server_->connections(), 2);
}

TEST_F(HttpClientTest, ARequestIsNotSentAgainOnceItsAnswerHasBegun) {
  Connect([](Peer& peer, int) {
    peer.Read();
    peer.Write(kWhole);
    peer.Read();
    peer.Write(kHead + TextEvent("a"));
  });
  EXPECT_TRUE(Ask().ok());
  const Outcome second = Ask();
  EXPECT_EQ(second.error, "closed");
  EXPECT_FALSE(second.resent);
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(HttpClientTest, BytesBehindAnAnswerAreNotTheNextOnesAnswer) {
  Connect([](Peer& peer, int) {
    const std::string forged = kHead + TextEvent("forged") + TextEvent("b") + StreamEnd();
    while (!peer.Read().empty()) peer.Write(kWhole + forged);
  });
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = Ask();
    EXPECT_TRUE(outcome.ok()) << outcome.error;
    EXPECT_EQ(outcome.token_events, 1) << i;
  }
  EXPECT_EQ(server_->connections(), 3);
}

TEST_F(HttpClientTest, BytesBetweenTwoRequestsAreNoAnswerEither) {
  std::promise<void> written;
  Connect([&](Peer& peer, int connection) {
    peer.Read();
    peer.Write(kWhole);
    if (connection > 0) return;
    peer.Write(kHead + TextEvent("x") + TextEvent("y") + StreamEnd());
    written.set_value();
    EXPECT_TRUE(peer.WaitForClose());
  });
  EXPECT_EQ(Ask().token_events, 1);
  written.get_future().wait();  // on loopback: they have arrived
  EXPECT_EQ(Ask().token_events, 1);
  Disconnect();  // before what its threads use
}

TEST_F(HttpClientTest, GarbageEndsTheRequestAtOnce) {
  const Outcome outcome = AskOneThatSays(kHead + Chunk("data: {{{{\n\n"));
  EXPECT_EQ(outcome.error, "protocol");
  EXPECT_THAT(outcome.error_message, HasSubstr("no JSON"));
}

TEST_F(HttpClientTest, AnEndlessEventEndsTheRequestAtItsBound) {
  for (const std::string field : {"data: ", "x"}) {
    Connect([=](Peer& peer, int) {
      peer.Read();
      peer.Write(kHead + Chunk(field));
      const std::string block = Chunk(std::string(1 << 16, 'x'));
      while (peer.Write(block)) {
      }
    });
    const Outcome outcome = Ask();
    EXPECT_EQ(outcome.error, "protocol");
    EXPECT_THAT(outcome.error_message, HasSubstr("longer than 1048576 bytes"));
  }
}

TEST_F(HttpClientTest, AnEndlessAnswerEndsWithMoreEventsThanItsTokensCanHave) {
  Connect([](Peer& peer, int) {
    peer.Read();
    peer.Write(kHead);
    while (peer.Write(TextEvent("a"))) {
    }
  });
  const Outcome outcome = Ask();
  EXPECT_EQ(outcome.error, "protocol");
  EXPECT_THAT(outcome.error_message, HasSubstr("more than 128 events"));
  EXPECT_EQ(outcome.token_events, MaxTokenEvents(4));
  EXPECT_EQ(outcome.gaps_ns.size(), 127u);
  EXPECT_EQ(client_->token_events(), 128);
}

TEST_F(HttpClientTest, AnEndlessRefusalIsCountedByItsStatus) {
  Connect([](Peer& peer, int) {
    peer.Read();
    peer.Write("HTTP/1.1 500 X\r\nContent-Type: text/html\r\nContent-Length: 99999999999\r\n\r\n");
    while (peer.Write(std::string(1 << 16, 'x'))) {
    }
  });
  EXPECT_EQ(Ask().error, "http_500");
}

TEST_F(HttpClientTest, AnAnswerThatIsNoStreamEndsWithItsFirstBytes) {
  const Outcome outcome = AskOneThatSays(
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{");
  EXPECT_EQ(outcome.error, "protocol");
  EXPECT_THAT(outcome.error_message, HasSubstr("no event stream"));
}

TEST_F(HttpClientTest, AnErrorInTheStreamEndsIt) {
  const Outcome outcome = AskOneThatSays(kHead + Chunk("data: {\"error\":\"no \\u001b[31m\"}\n\n"));
  EXPECT_EQ(outcome.error, "stream");
  EXPECT_EQ(outcome.error_message, "no \\x1b[31m");
}

TEST_F(HttpClientTest, AHeadWithoutAnEndIsRefused) {
  EXPECT_EQ(AskOneThatSays("HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'a')).error, "protocol");
}

TEST_F(HttpClientTest, AStreamCutInsideAnEventIsClosed) {
  const std::string event = TextEvent("b");
  for (const std::string& end : {event.substr(0, event.size() / 2), std::string("10\r\nabc")}) {
    for (const bool reset : {false, true}) {
      Connect([=](Peer& peer, int) {
        peer.Read();
        peer.Write(kHead + TextEvent("a") + end);
        if (reset) peer.Reset();
      });
      const Outcome outcome = Ask();
      EXPECT_EQ(outcome.error, "closed");
    }
  }
}

TEST_F(HttpClientTest, AStreamThatEndsWithoutAFinishIsNoAnswer) {
  Connect([](Peer& peer, int) {
    peer.Read();
    peer.Write(kHead + TextEvent("a") + "0\r\n\r\n");
  });
  const Outcome outcome = Ask();
  EXPECT_EQ(outcome.error, "protocol");
  EXPECT_EQ(outcome.token_events, 1);
}

// A server that refuses by the head alone, and closes while the body is on its way.
TEST_F(HttpClientTest, ARefusalBeforeTheRequestWasReadIsRead) {
  const std::string refusal =
      "HTTP/1.1 413 X\r\nContent-Length: 31\r\nConnection: close\r\n\r\n"
      "{\"error\":{\"message\":\"too big\"}}";
  Connect([=](Peer& peer, int) {
    peer.Write(refusal);
    peer.Close();  // with unread bytes: a reset
  });
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = Ask(8 << 20);
    EXPECT_EQ(outcome.error, "http_413") << outcome.error_message;
    EXPECT_EQ(outcome.error_message, "too big");
  }
}

TEST_F(HttpClientTest, MediaTypesHaveNoCase) {
  for (const char* type : {"Text/Event-Stream; charset=utf-8", "TEXT/EVENT-STREAM;x"}) {
    Connect([=](Peer& peer, int) {
      peer.Read();
      peer.Write(StrCat("HTTP/1.1 200 OK\r\nContent-Type: ", type,
                        "\r\nTransfer-Encoding: chunked\r\n\r\n", TextEvent("a"), StreamEnd()));
    });
    const Outcome outcome = Ask();
    EXPECT_TRUE(outcome.ok()) << outcome.error_message;
  }
  EXPECT_EQ(AskOneThatSays("HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n\r\nx").error,
            "protocol");
}

// So many as are open, and not one more.
TEST_F(HttpClientTest, WithoutADescriptorTheErrorSaysSo) {
  std::promise<void> promise;
  const std::shared_future<void> measured = promise.get_future().share();
  Connect([=](Peer& peer, int) {
    peer.Read();
    peer.Write(kHead.substr(0, kHead.size() - 2) + "Connection: close\r\n\r\n" + TextEvent("a") +
               StreamEnd());
    measured.wait();  // the server's sockets are this process's, too
  });
  EXPECT_TRUE(Ask().ok());  // the reactor has its own descriptors now
  int highest = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    highest = std::max(highest, std::stoi(entry.path().filename().string()));
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  std::vector<int> fill;
  rlimit full = before;
  full.rlim_cur = static_cast<rlim_t>(highest) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &full), 0);
  for (int fd; (fd = dup(0)) >= 0;) fill.push_back(fd);  // the gaps below
  const Outcome outcome = Ask();
  for (const int fd : fill) close(fd);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  promise.set_value();
  EXPECT_EQ(outcome.error, "descriptors");
  EXPECT_THAT(outcome.error_message, HasSubstr("Too many open files"));
  EXPECT_TRUE(Ask().ok());
}

}  // namespace
}  // namespace trireme::loadgen
