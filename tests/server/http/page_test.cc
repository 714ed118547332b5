// The built-in page as files: what a browser gets, with and without a key, and with --no-page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <regex>

#include "runtime/base/strings.h"
#include "server/page/page.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using fakes::HttpAnswer;
using fakes::HttpClient;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(PageTest, IsServedWithoutCachingSurprisesAndWithoutForeignSources) {
  TestServer server;
  HttpClient client(server.port());
  const HttpAnswer page = client.Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.header("content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.header("cache-control"), "no-cache");
  EXPECT_EQ(page.header("x-content-type-options"), "nosniff");
  EXPECT_EQ(page.header("content-security-policy"),
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  EXPECT_EQ(page.body, FindPageFile("index.html")->bytes);
  EXPECT_EQ(client.Get("/page/index.html").body, page.body);
  EXPECT_THAT(page.body, Not(HasSubstr("//")));  // no other host
  EXPECT_THAT(page.body, Not(HasSubstr(" style=")));
  EXPECT_FALSE(std::regex_search(page.body, std::regex(R"( on[a-z]+=)")));  // nothing inline
}

TEST(PageTest, EveryFileItNamesIsThereWithItsType) {
  TestServer server;
  HttpClient client(server.port());
  const std::string page = client.Get("/").body;
  const std::regex reference(R"re((?:src|href)="(page/[^"]+)")re");
  int count = 0;
  for (std::sregex_iterator it(page.begin(), page.end(), reference), end; it != end; ++it) {
    const HttpAnswer file = client.Get(StrCat("/", (*it)[1].str()));
    EXPECT_EQ(file.status, 200) << (*it)[1];
    EXPECT_FALSE(file.body.empty());
    ++count;
  }
  EXPECT_GE(count, 4);
  EXPECT_EQ(client.Get("/page/app.js").header("content-type"), "text/javascript; charset=utf-8");
  EXPECT_EQ(client.Get("/page/style.css").header("content-type"), "text/css; charset=utf-8");
  EXPECT_EQ(client.Get("/page/icon.svg").header("content-type"), "image/svg+xml");
}

TEST(PageTest, AKnownFileIsNotSentAgain) {
  TestServer server;
  HttpClient client(server.port());
  const std::string etag = client.Get("/page/app.js").header("etag");
  EXPECT_EQ(etag.size(), 34u);
  for (const std::string& known :
       {etag, StrCat("W/", etag), StrCat("\"x\", ", etag), std::string("*")}) {
    const HttpAnswer again = client.Get("/page/app.js", StrCat("If-None-Match: ", known, "\r\n"));
    EXPECT_EQ(again.status, 304) << known;
    EXPECT_EQ(again.body, "");
    EXPECT_EQ(again.header("content-length"), "");
    EXPECT_EQ(again.header("etag"), etag);
  }
  EXPECT_EQ(client.Get("/page/app.js", "If-None-Match: \"x\"\r\n").status, 200);
}

TEST(PageTest, NothingElseIsInItsFolder) {
  TestServer server;
  HttpClient client(server.port());
  for (const char* path : {"/page/", "/page/none.js", "/page/../keys.txt", "/page/%2e%2e/page.cc",
                           "/page//etc/passwd", "/page/page.cc"}) {
    EXPECT_EQ(client.Get(path).status, 404) << path;
  }
  const HttpAnswer post = client.Post("/", "{}");
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.header("allow"), "GET, HEAD");
}

class PageKeyTest : public testing::Test {
 protected:
  PageKeyTest() : path_(StrCat(testing::TempDir(), "trireme_page_keys_", getpid())) {
    std::ofstream(path_) << "sk-test\n";
  }
  ~PageKeyTest() override { unlink(path_.c_str()); }
  const std::string path_;
};

TEST_F(PageKeyTest, ThePageIsOpenAndSaysThatTheRestIsNot) {
  TestServer server({.key_file = path_});
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/").status, 200);
  EXPECT_EQ(client.Get("/page/app.js").status, 200);
  EXPECT_EQ(client.Get("/page/config.json").body, R"({"key_required":true})");
  EXPECT_EQ(client.Get("/v1/models").status, 401);
  TestServer open;
  EXPECT_EQ(HttpClient(open.port()).Get("/page/config.json").body, R"({"key_required":false})");
}

TEST_F(PageKeyTest, WithoutThePageItsPathsAreUnknown) {
  TestServer open({.http = {.page = false}});
  TestServer closed({.http = {.page = false}, .key_file = path_});
  HttpClient client(open.port()), stranger(closed.port());
  for (const char* path : {"/", "/page/", "/page/app.js", "/page/config.json"}) {
    EXPECT_EQ(client.Get(path).status, 404) << path;
    EXPECT_EQ(stranger.Get(path).status, 401) << path;
  }
}

}  // namespace
}  // namespace trireme::http
