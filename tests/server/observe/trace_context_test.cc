#include "server/observe/trace_context.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

std::optional<TraceContext> Parse(std::string_view traceparent, std::string_view tracestate = "") {
  return ParseTraceContext({traceparent}, {tracestate});
}
std::string Header(std::string_view version = "00", std::string_view flags = "01") {
  return StrCat(version, "-", kTrace, "-", kParent, "-", flags);
}
std::string StateOf(std::string_view tracestate) {
  const auto context = Parse(Header(), tracestate);
  EXPECT_TRUE(context.has_value()) << "a bad tracestate must not cost the trace";
  return context ? context->tracestate : "";
}

TEST(TraceContextTest, IdsAndTheSampledFlagAreRead) {
  const auto context = Parse(Header());
  ASSERT_TRUE(context);
  EXPECT_EQ(ToHex(context->trace_id), kTrace);
  EXPECT_EQ(ToHex(context->parent_id), kParent);
  EXPECT_TRUE(context->sampled);
  EXPECT_FALSE(Parse(Header("00", "00"))->sampled);
  EXPECT_FALSE(Parse(Header("00", "fe"))->sampled) << "other bits mean something else";
  EXPECT_TRUE(Parse(Header("00", "ff"))->sampled);
}

TEST(TraceContextTest, WhatTheStandardForbidsIsNoContext) {
  const std::string good = Header();
  EXPECT_FALSE(ParseTraceContext({}, {}));
  EXPECT_FALSE(ParseTraceContext({good, good}, {})) << "two headers";
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(Parse(good.substr(0, length))) << length;
  }
  for (const std::string& bad :
       {good + "-", good + " ", " " + good, good + std::string(1, '\0'), Header("ff"), Header("0G"),
        Header("00", "0x"), Header("00", "0A"), std::string(55, '-'), std::string(55, '0'),
        StrCat("00-", std::string(32, '0'), "-", kParent, "-01"),
        StrCat("00-", kTrace, "-", std::string(16, '0'), "-01"),
        StrCat("00-4BF92F3577B34DA6A3CE929D0E0E4736-", kParent, "-01"),
        StrCat("00_", kTrace, "_", kParent, "_01"), good + "," + good}) {
    EXPECT_FALSE(Parse(bad)) << bad;
  }
}

TEST(TraceContextTest, LaterVersionsMayHaveMoreFields) {
  EXPECT_TRUE(Parse(Header("cc")));
  EXPECT_TRUE(Parse(Header("cc") + "-anything at all"));
  EXPECT_FALSE(Parse(Header("cc") + "anything"));
}

// Every change of one byte gives either nothing or a context whose parts are the header's own.
TEST(TraceContextTest, NoByteIsMisread) {
  const std::string good = Header();
  for (size_t at = 0; at < good.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string header = good;
      header[at] = static_cast<char>(byte);
      const auto context = Parse(header);
      if (!context) continue;
      EXPECT_EQ(ToHex(context->trace_id), header.substr(3, 32));
      EXPECT_EQ(ToHex(context->parent_id), header.substr(36, 16));
    }
  }
}

TEST(TraceContextTest, TracestateIsAListOfUniqueKeys) {
  EXPECT_EQ(StateOf("a=1"), "a=1");
  EXPECT_EQ(StateOf(" a=1 ,\tb=2 ,, c=x y"), "a=1,b=2,c=x y");
  EXPECT_EQ(StateOf("tenant@system=v,0t@s=v"), "tenant@system=v,0t@s=v");
  EXPECT_EQ(ParseTraceContext({Header()}, {"a=1", "b=2"})->tracestate, "a=1,b=2");
  for (const char* bad : {"a", "=1", "a=", "a=1,a=2", "A=1", "1a=1", "a=b=c", "a =1", "@s=1",
                          "t@=1", "t@1=v", "a=\x01", "a=\xc3\xa4", "a@b@c=1"}) {
    EXPECT_EQ(StateOf(bad), "") << bad;
  }
  EXPECT_EQ(StateOf(StrCat(std::string(256, 'k'), "=", std::string(256, 'v'))).size(), 513u);
  EXPECT_EQ(StateOf(StrCat(std::string(257, 'k'), "=v")), "");
  EXPECT_EQ(StateOf(StrCat("k=", std::string(257, 'v'))), "");
}

TEST(TraceContextTest, TracestateIsBounded) {
  std::string list;
  for (int i = 0; i < 32; ++i) StrAppend(&list, i == 0 ? "" : ",", "k", i, "=v");
  EXPECT_EQ(StateOf(list), list);
  EXPECT_EQ(StateOf(list + ",one=more"), "");
  std::string long_list;
  for (int i = 0; i < 20; ++i) StrAppend(&long_list, "k", i, "=", std::string(250, 'v'), ",");
  EXPECT_EQ(StateOf(long_list), "");
}

TEST(TraceContextTest, NoiseIsHarmless) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string header = Header(), state = "a=1,b@c=2";
    for (std::string* text : {&header, &state}) {
      for (int changes = static_cast<int>(random() % 4); changes > 0; --changes) {
        if (random() % 2 == 0) {
          (*text)[random() % text->size()] = static_cast<char>(random());
        } else {
          text->insert(random() % text->size(), 1, static_cast<char>(random()));
        }
      }
    }
    const auto context = Parse(header, state);
    if (!context) continue;
    EXPECT_TRUE(context->has_id() && context->has_parent());
    for (const char c : context->tracestate) EXPECT_TRUE(c >= ' ' && c <= '~');
  }
}

TEST(TraceContextTest, NewTracesAreSampledAtTheRatio) {
  int sampled = 0;
  constexpr int kTraces = 20000;
  for (int i = 0; i < kTraces; ++i) {
    const TraceContext trace = NewTrace(0.25);
    EXPECT_TRUE(trace.has_id());
    EXPECT_FALSE(trace.has_parent());
    sampled += trace.sampled;
    EXPECT_TRUE(NewTrace(1).sampled);
    EXPECT_FALSE(NewTrace(0).sampled);
  }
  // Six standard deviations of a binomial: sqrt(20000 * 0.25 * 0.75) = 61.
  EXPECT_NEAR(sampled, kTraces / 4, 6 * 62);
}

}  // namespace
}  // namespace trireme
