// Bad framing, limits and time-outs: what is refused, with which status, and that the connection is
// not used again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/strings.h"
#include "server/http/request_parser.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using fakes::HttpAnswer;
using fakes::HttpClient;

constexpr char kPost[] = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";

struct BadRequest {
  const char* name;
  std::string bytes;
  int status;
};
void PrintTo(const BadRequest& bad, std::ostream* out) { *out << bad.name; }

class BadFramingTest : public testing::TestWithParam<BadRequest> {};
TEST_P(BadFramingTest, IsAnsweredOnceAndTheConnectionCloses) {
  TestServer server;
  HttpClient client(server.port());
  // What a smuggler appends must never be served.
  client.Send(GetParam().bytes);
  client.Send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
  const HttpAnswer answer = client.Read();
  EXPECT_EQ(answer.status, GetParam().status) << answer.body;
  EXPECT_EQ(answer.header("connection"), "close");
  EXPECT_THAT(answer.body, testing::StartsWith(R"({"error":{"message":")"));
  EXPECT_EQ(client.ReadToEnd(), "");
  client.Close();
  server.WaitUntilQuiet();
}

std::string Post(std::string_view headers, std::string_view body = "") {
  return StrCat(kPost, headers, "\r\n", body);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadFramingTest,
    testing::Values(
        BadRequest{"LengthAndChunked",
                   Post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
        BadRequest{"ChunkedAndLength",
                   Post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), 400},
        BadRequest{"TwoLengths", Post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), 400},
        BadRequest{"TwoEqualLengths", Post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
                   400},
        BadRequest{"LengthList", Post("Content-Length: 2, 2\r\n", "{}"), 400},
        BadRequest{"LengthOf64Bits", Post("Content-Length: 18446744073709551615\r\n"), 413},
        BadRequest{"LengthOf65Bits", Post("Content-Length: 36893488147419103232\r\n"), 400},
        BadRequest{"NegativeLength", Post("Content-Length: -1\r\n"), 400},
        BadRequest{"SignedLength", Post("Content-Length: +2\r\n", "{}"), 400},
        BadRequest{"HexLength", Post("Content-Length: 0x2\r\n", "{}"), 400},
        BadRequest{"ChunkSizeOf17Digits",
                   Post("Transfer-Encoding: chunked\r\n", "11111111111111111\r\n"), 400},
        BadRequest{"ChunkSizeNoNumber", Post("Transfer-Encoding: chunked\r\n", "zz\r\n"), 400},
        BadRequest{"ChunkTooLong", Post("Transfer-Encoding: chunked\r\n", "2\r\n{}}\r\n0\r\n\r\n"),
                   400},
        BadRequest{"EndlessChunkExtension",
                   Post("Transfer-Encoding: chunked\r\n", "2;" + std::string(200000, 'x')), 400},
        BadRequest{"GzipThenChunked", Post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
                   400},
        BadRequest{"ChunkedThenIdentity",
                   Post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400},
        BadRequest{
            "ChunkedTwice",
            Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
        BadRequest{"ChunkedInHttp10",
                   "POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   400},
        BadRequest{"NoHost", "GET /health HTTP/1.1\r\n\r\n", 400},
        BadRequest{"TwoHosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        BadRequest{"SpaceBeforeColon", "GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        BadRequest{"NulInHeader",
                   std::string("GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 41), 400},
        BadRequest{"BareLineFeeds", "GET /health HTTP/1.1\nHost: x\n\n", 400},
        BadRequest{"Garbage", "\x16\x03\x01\x02\x01\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
        BadRequest{"Http2Preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        BadRequest{
            "HugeHeader",
            StrCat("GET /health HTTP/1.1\r\nHost: x\r\nA: ", std::string(1 << 20, 'a'), "\r\n\r\n"),
            431},
        BadRequest{"HugeTarget",
                   StrCat("GET /", std::string(1 << 20, 'a'), " HTTP/1.1\r\nHost: x\r\n\r\n"), 431},
        BadRequest{"BadPercent", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        BadRequest{"BodyOverLimit", Post("Content-Length: 40000000\r\n"), 413},
        BadRequest{"CompressedBody", Post("Content-Encoding: gzip\r\nContent-Length: 10\r\n"), 415},
        BadRequest{"WrongMediaType", Post("Content-Type: text/plain\r\nContent-Length: 10\r\n"),
                   415}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(FramingTest, ChunkedBodyOverTheLimitIsRefusedBeforeItsEnd) {
  TestServer server({.http = {.max_body_bytes = 1000}});
  HttpClient client(server.port());
  client.Send(
      Post("Transfer-Encoding: chunked\r\n", StrCat("3e9\r\n", std::string(1001, ' '), "\r\n")));
  EXPECT_EQ(client.Read().status, 413);
}

TEST(FramingTest, BodiesOfAllConnectionsShareABudget) {
  TestServer server({.http = {.max_buffered_body_bytes = 1000}});
  HttpClient client(server.port());
  client.Send(Post("Content-Length: 3000\r\n", std::string(2000, ' ')));
  const HttpAnswer answer = client.Read();
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.header("retry-after"), "1");
  EXPECT_EQ(HttpClient(server.port()).Post("/v1/completions", CompletionBody("\"x\"")).status, 200)
      << "what was charged has been given back";
}

TEST(FramingTest, RefusalsThatLeaveFramingIntactKeepTheConnection) {
  TestServer server;
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/nowhere").status, 404);
  EXPECT_EQ(client.Get("/%2e%2e/%2e%2e/etc/passwd").status, 404);
  const HttpAnswer wrong_method = client.Get("/v1/chat/completions");
  EXPECT_EQ(wrong_method.status, 405);
  EXPECT_EQ(wrong_method.header("allow"), "POST");
  client.Send("DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read().header("allow"), "GET, HEAD");
  EXPECT_EQ(client.Get("http://proxy.example/health?x=%zz").status, 200);
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST(FramingTest, ChunkedBodiesAndMissingContentTypeAreServed) {
  TestServer server;
  HttpClient client(server.port());
  const std::string body = CompletionBody("\"x\"");
  std::string chunks;
  for (const char c : body) StrAppend(&chunks, "1;ext=1\r\n", std::string(1, c), "\r\n");
  client.Send(Post("Transfer-Encoding: chunked\r\n", chunks + "0\r\nTrailer: x\r\n\r\n"));
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST(FramingTest, ContinueIsSentBeforeTheBodyAndNotAfterARefusal) {
  TestServer server;
  HttpClient client(server.port());
  const std::string body = CompletionBody("\"x\"");
  const std::string length =
      StrCat("Content-Length: ", body.size(), "\r\nExpect: 100-continue\r\n");
  client.Send(Post(length));
  EXPECT_EQ(client.Read().status, 100);
  client.Send(body);
  EXPECT_EQ(client.Read().status, 200);
  client.Send(StrCat("POST /nowhere HTTP/1.1\r\nHost: x\r\n", length, "\r\n"));
  EXPECT_EQ(client.Read().status, 404);
}

TEST(FramingTest, ASlowHeadGetsARequestTimeout) {
  TestServer server({.http = {.header_timeout = absl::Milliseconds(50)}});
  HttpClient client(server.port());
  client.Send("GET /health HTTP/1.1\r\nHost:");
  const HttpAnswer answer = client.Read();
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST(FramingTest, AnUnfinishedBodyGetsARequestTimeout) {
  TestServer server({.http = {.body_timeout = absl::Milliseconds(50)}});
  HttpClient client(server.port());
  client.Send(Post("Transfer-Encoding: chunked\r\n", "5\r\n{}"));
  EXPECT_EQ(client.Read().status, 408);
}

TEST(FramingTest, ASilentConnectionIsClosedWithoutAWord) {
  TestServer server(
      {.http = {.header_timeout = absl::Milliseconds(50), .idle_timeout = absl::Milliseconds(50)}});
  HttpClient silent(server.port());
  EXPECT_EQ(silent.ReadToEnd(), "");
  HttpClient idle(server.port());
  EXPECT_EQ(idle.Get("/health").status, 200);
  EXPECT_EQ(idle.ReadToEnd(), "");
}

TEST(RequestParserTest, BytesMayArriveOneByOne) {
  const std::string bytes =
      "POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET";
  RequestParser parser(1000, 1000);
  std::string input;
  for (const char c : bytes) {
    input += c;
    for (int i = 0; i < 2 && !parser.done(); ++i) ASSERT_FALSE(parser.Feed(&input).has_value());
  }
  ASSERT_TRUE(parser.done());
  const HttpRequest head = parser.TakeHead();
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/a b");
  EXPECT_EQ(head.query, "c=d");
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(parser.TakeBody(), "abc");
  EXPECT_EQ(input, "GET");
}

// Found by fuzzing: Beast took the fourth byte for a mistake of its caller, and aborted.
TEST(RequestParserTest, AnEmptyChunkedBodyMayArriveByteByByte) {
  for (const char* end : {"0\r\n\r\n", "00\r\n\r\n", "0\r\nA: b\r\n\r\n"}) {
    RequestParser parser(1000, 1000);
    std::string input;
    const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const char c : head + end) {
      EXPECT_FALSE(parser.done()) << end;
      input += c;
      for (int i = 0; i < 2 && !parser.done(); ++i) ASSERT_FALSE(parser.Feed(&input).has_value());
    }
    ASSERT_TRUE(parser.done()) << end;
    EXPECT_EQ(parser.TakeBody(), "");
  }
}

// Found by fuzzing: every further read took the chunk off the body's limit again.
TEST(RequestParserTest, AChunkLineWithOpenQuotesIsMalformedAndNotTooLarge) {
  for (const char* line : {"4;a=\"b\r\n", "4;a=\"\r\n\"\r\nabcd\r\n", "2\r\nab\r\n4;a=\"b\r\n"}) {
    for (const size_t step : {size_t{1}, size_t{1000}}) {
      RequestParser parser(1000, 10);
      std::string bytes = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
      std::string input;
      bytes += line;
      std::optional<openai::ApiError> refused;
      for (size_t at = 0; at < bytes.size() && !refused; at += step) {
        input += bytes.substr(at, step);
        for (int i = 0; i < 2 && !refused; ++i) refused = parser.Feed(&input);
      }
      ASSERT_TRUE(refused.has_value()) << line;
      EXPECT_EQ(refused->http_status, 400);
      EXPECT_EQ(refused->message, "The chunked body is malformed.");
    }
  }
}

TEST(RequestParserTest, Http10ClosesUnlessAskedOtherwise) {
  const auto keep_alive = [](std::string input) {
    RequestParser parser(1000, 1000);
    EXPECT_FALSE(parser.Feed(&input).has_value());
    return parser.TakeHead().keep_alive;
  };
  EXPECT_FALSE(keep_alive("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep_alive("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
}

}  // namespace
}  // namespace trireme::http
