#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <map>

#include "server/observe/otlp_encoder.h"
#include "server/observe/otlp_options.h"
#include "tests/server/observe/finished_requests.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

// ---- Encoding.

boost::json::array Spans(FinishedRequest request) {
  if (!request.trace.has_id()) request.trace = NewTrace(1);
  const std::string text = EncodeTraces({{"service.name", "x"}}, {Shared(std::move(request))});
  return boost::json::parse(text).at_pointer("/resourceSpans/0/scopeSpans/0/spans").as_array();
}
std::string Attribute(const boost::json::value& span, std::string_view key) {
  for (const boost::json::value& attribute : span.at("attributes").as_array()) {
    if (attribute.at("key").as_string() == key) {
      return boost::json::serialize(attribute.at("value").as_object().begin()->value());
    }
  }
  return "absent";
}

TEST(OtlpEncoderTest, ARequestIsAServerSpanWithItsPhasesInside) {
  const boost::json::array spans = Spans(Chat());
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0].at("kind").as_int64(), 2);
  EXPECT_FALSE(spans[0].as_object().contains("parentSpanId"));
  EXPECT_EQ(spans[0].at("startTimeUnixNano").as_string(), "1700000000000000000");
  EXPECT_EQ(spans[0].at("endTimeUnixNano").as_string(), "1700000007000000000");
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(spans[i].at("parentSpanId"), spans[0].at("spanId"));
    EXPECT_EQ(spans[i].at("traceId"), spans[0].at("traceId"));
    EXPECT_EQ(spans[i].at("kind").as_int64(), 1);
  }
  EXPECT_EQ(spans[2].at("startTimeUnixNano").as_string(), "1700000001000000000");
  EXPECT_EQ(Attribute(spans[0], "gen_ai.usage.output_tokens"), "\"5\"");
  EXPECT_EQ(Attribute(spans[0], "gen_ai.usage.cache_read.input_tokens"), "\"8\"");
  EXPECT_EQ(Attribute(spans[0], "error.type"), "absent");
}

TEST(OtlpEncoderTest, OnlyTheServersFailuresAreErrors) {
  FinishedRequest request = Chat();
  request.http_status = 429;
  request.error_code = "overloaded";
  EXPECT_FALSE(Spans(request)[0].as_object().contains("status"));
  EXPECT_EQ(Attribute(Spans(request)[0], "error.type"), "\"overloaded\"");
  request.http_status = 503;
  request.error_code = "draining";
  EXPECT_EQ(Spans(request)[0].at("status").at("code").as_int64(), 2);
  request.error_code = "";
  EXPECT_EQ(Attribute(Spans(request)[0], "error.type"), "\"503\"");
}

TEST(OtlpEncoderTest, WhatNeverReachedTheModelHasNoPhases) {
  FinishedRequest request = Chat();
  request.model = "";
  request.http_status = 400;
  const boost::json::array spans = Spans(request);
  EXPECT_EQ(spans.size(), 1u);
  EXPECT_EQ(Attribute(spans[0], "gen_ai.request.model"), "absent");
}

// ---- Options.

absl::StatusOr<OtlpOptions> Read(std::string_view endpoint,
                                 std::map<std::string, std::string> variables) {
  return ReadOtlpOptions(endpoint, std::nullopt,
                         [&](std::string_view name) -> std::optional<std::string> {
                           const auto found = variables.find(std::string(name));
                           if (found == variables.end()) return std::nullopt;
                           return found->second;
                         });
}
std::string UrlOf(std::string_view endpoint, std::map<std::string, std::string> variables) {
  const auto options = Read(endpoint, std::move(variables));
  return options.ok() ? options->url : std::string(options.status().message());
}

constexpr char kEndpoint[] = "OTEL_EXPORTER_OTLP_ENDPOINT";
constexpr char kTracesEndpoint[] = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

TEST(OtlpOptionsTest, TheFlagBeatsTheTracesVariableBeatsTheGeneralOne) {
  EXPECT_EQ(UrlOf("", {}), "");
  EXPECT_EQ(UrlOf("", {{kEndpoint, "http://a:4318"}}), "http://a:4318/v1/traces");
  EXPECT_EQ(UrlOf("", {{kEndpoint, "http://a:4318/base/"}}), "http://a:4318/base/v1/traces");
  EXPECT_EQ(UrlOf("", {{kEndpoint, "http://a"}, {kTracesEndpoint, "https://b/x"}}), "https://b/x");
  EXPECT_EQ(UrlOf("http://c", {{kTracesEndpoint, "http://b"}}), "http://c/v1/traces");
  EXPECT_EQ(UrlOf("http://c/v1/traces", {}), "http://c/v1/traces");
  EXPECT_EQ(UrlOf("", {{kEndpoint, "http://a"}, {"OTEL_SDK_DISABLED", "TRUE"}}), "");
  EXPECT_EQ(UrlOf("", {{kEndpoint, "http://a"}, {"OTEL_TRACES_EXPORTER", "none"}}), "");
}

TEST(OtlpOptionsTest, ABadValueIsNamedAndNotRepeated) {
  EXPECT_THAT(UrlOf("localhost:4318", {}), HasSubstr("--otlp-endpoint"));
  EXPECT_THAT(UrlOf("", {{kEndpoint, "http://"}}), HasSubstr(kEndpoint));
  for (const char* bad : {"secret", "=secret", "a=secret%0a", "a=secret%", "a=secret%zz",
                          "a b=secret", "a:b=secret", "a=secret\nx"}) {
    const std::string error = UrlOf("http://a", {{"OTEL_EXPORTER_OTLP_HEADERS", bad}});
    EXPECT_THAT(error, HasSubstr("OTEL_EXPORTER_OTLP_HEADERS")) << bad;
    EXPECT_THAT(error, Not(HasSubstr("secret")));
  }
  for (const char* bad : {"0", "-1", "x", "1.5", "99999999"}) {
    EXPECT_THAT(UrlOf("http://a", {{"OTEL_BSP_MAX_QUEUE_SIZE", bad}}),
                HasSubstr("OTEL_BSP_MAX_QUEUE_SIZE"));
  }
}

TEST(OtlpOptionsTest, WhatIsNotUtf8IsRefusedByName) {
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_RESOURCE_ATTRIBUTES", "zone=%ff"}}),
              HasSubstr("OTEL_RESOURCE_ATTRIBUTES"));
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_SERVICE_NAME", "a\xc3"}}), HasSubstr("OTEL_SERVICE_NAME"));
  EXPECT_EQ(UrlOf("http://a", {{"OTEL_SERVICE_NAME", "caf\xc3\xa9"}}), "http://a/v1/traces");
}

TEST(OtlpOptionsTest, GrpcIsRefusedAndJsonIsSentForProtobuf) {
  constexpr char kProtocol[] = "OTEL_EXPORTER_OTLP_PROTOCOL";
  EXPECT_THAT(UrlOf("http://a", {{kProtocol, "grpc"}}), HasSubstr(kProtocol));
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"}}),
              HasSubstr("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"));
  EXPECT_EQ(UrlOf("http://a", {{kProtocol, "http/protobuf"}}), "http://a/v1/traces");
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_TRACES_EXPORTER", "zipkin"}}),
              HasSubstr("OTEL_TRACES_EXPORTER"));
}

TEST(OtlpOptionsTest, TheSamplersVariablesDecideUnlessTheFlagDoes) {
  const auto sampler = [](const std::string& name, const std::string& argument = "") {
    std::map<std::string, std::string> variables = {{"OTEL_TRACES_SAMPLER", name}};
    if (!argument.empty()) variables["OTEL_TRACES_SAMPLER_ARG"] = argument;
    const auto options = Read("http://a", variables);
    EXPECT_TRUE(options.ok()) << options.status();
    return options.ok() ? std::pair(options->sample_ratio, options->follow_callers)
                        : std::pair(-1.0, false);
  };
  EXPECT_EQ(Read("http://a", {})->sample_ratio, 1);
  EXPECT_EQ(sampler("always_off"), std::pair(0.0, false));
  EXPECT_EQ(sampler("always_on"), std::pair(1.0, false));
  EXPECT_EQ(sampler("parentbased_always_off"), std::pair(0.0, true));
  EXPECT_EQ(sampler("parentbased_traceidratio", "0.25"), std::pair(0.25, true));
  EXPECT_EQ(sampler("traceidratio"), std::pair(1.0, false));
  const Environment off = [](std::string_view name) -> std::optional<std::string> {
    if (name == "OTEL_TRACES_SAMPLER") return "always_off";
    return std::nullopt;
  };
  EXPECT_EQ(ReadOtlpOptions("http://a", 0.5, off)->sample_ratio, 0.5);
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_TRACES_SAMPLER", "xray"}}),
              HasSubstr("OTEL_TRACES_SAMPLER"));
  for (const char* bad : {"2", "-0.1", "nan", "x"}) {
    EXPECT_THAT(UrlOf("http://a",
                      {{"OTEL_TRACES_SAMPLER", "traceidratio"}, {"OTEL_TRACES_SAMPLER_ARG", bad}}),
                HasSubstr("OTEL_TRACES_SAMPLER_ARG"));
  }
}

TEST(OtlpOptionsTest, TimeoutAndCertificateAreRead) {
  const auto options = Read("http://a", {{"OTEL_EXPORTER_OTLP_TIMEOUT", "1500"},
                                         {"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/dev/null"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->timeout, absl::Milliseconds(1500));
  EXPECT_EQ(options->ca_file, "/dev/null");
  EXPECT_THAT(UrlOf("http://a", {{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"}}),
              HasSubstr("OTEL_EXPORTER_OTLP_CERTIFICATE"));
}

TEST(OtlpOptionsTest, HeadersAndResourceAreListsOfPairs) {
  const auto options = Read("http://a", {{"OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=x%20y%3D,"},
                                         {"OTEL_RESOURCE_ATTRIBUTES", "service.name=r,zone=z"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->headers, ElementsAre(Pair("a", "1"), Pair("b", "x y=")));
  EXPECT_THAT(options->resource, ElementsAre(Pair("zone", "z"), Pair("service.name", "r")));
  const auto named = Read(
      "http://a", {{"OTEL_SERVICE_NAME", "mine"}, {"OTEL_RESOURCE_ATTRIBUTES", "service.name=r"}});
  EXPECT_THAT(named->resource, ElementsAre(Pair("service.name", "mine")));
  EXPECT_THAT(Read("http://a", {})->resource, ElementsAre(Pair("service.name", "trireme")));
  const auto both = Read("http://a", {{"OTEL_EXPORTER_OTLP_HEADERS", "a=1"},
                                      {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"}});
  EXPECT_THAT(both->headers, ElementsAre(Pair("b", "2")));
}

}  // namespace
}  // namespace trireme
