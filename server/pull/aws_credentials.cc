#include "server/pull/aws_credentials.h"

#include <algorithm>
#include <boost/json.hpp>
#include <iterator>
#include <sstream>

#include "absl/strings/ascii.h"
#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/environment.h"
#include "server/pull/http.h"
#include "server/pull/source.h"

namespace trireme::pull {
namespace {

namespace json = boost::json;

using Found = absl::StatusOr<std::optional<AwsCredentials>>;

constexpr size_t kMaxAnswerBytes = 64 << 10;
constexpr char kContainerHost[] = "http://169.254.170.2";
// The origins of ECS and EKS, by their links.
constexpr const char* kTrustedOrigins[] = {"http://169.254.170.2:80", "http://169.254.170.23:80",
                                           "http://[fd00:ec2::23]:80"};
constexpr char kInstanceHost[] = "http://169.254.169.254";

std::string Profile() { return Environment("AWS_PROFILE").value_or("default"); }

std::optional<std::string> CredentialsFileValue(const char* key) {
  const auto text = ReadFile(
      Environment("AWS_SHARED_CREDENTIALS_FILE").value_or(HomeFolder() + "/.aws/credentials"),
      kMaxSettingsBytes);
  return text.ok() ? IniValue(*text, Profile(), key) : std::nullopt;
}

std::optional<std::string> ConfigFileValue(const char* key) {
  const auto text = ReadFile(Environment("AWS_CONFIG_FILE").value_or(HomeFolder() + "/.aws/config"),
                             kMaxSettingsBytes);
  const std::string profile = Profile();
  return text.ok() ? IniValue(*text, profile == "default" ? profile : "profile " + profile, key)
                   : std::nullopt;
}

Found FromEnvironment() {
  const auto access = Environment("AWS_ACCESS_KEY_ID");
  const auto secret = Environment("AWS_SECRET_ACCESS_KEY");
  if (!access && !secret) return std::nullopt;
  if (!access || !secret) {
    return absl::InvalidArgumentError(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together; one is missing");
  }
  return AwsCredentials{*access, *secret, Environment("AWS_SESSION_TOKEN").value_or(""),
                        absl::InfiniteFuture(), "the environment"};
}

Found FromFiles() {
  const auto value = [](const char* key) {
    auto found = CredentialsFileValue(key);
    return found ? found : ConfigFileValue(key);
  };
  const auto access = value("aws_access_key_id"), secret = value("aws_secret_access_key");
  if (!access || !secret) return std::nullopt;
  return AwsCredentials{*access, *secret, value("aws_session_token").value_or(""),
                        absl::InfiniteFuture(), StrCat("profile ", Profile())};
}

// What both metadata services answer.
Found FromJson(const std::string& body, const char* from) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  const auto text = [&](const char* key) -> std::string {
    if (error || !value.is_object()) return "";
    const json::value* found = value.get_object().if_contains(key);
    return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
  };
  AwsCredentials credentials = {text("AccessKeyId"), text("SecretAccessKey"), text("Token"),
                                absl::InfiniteFuture(), from};
  if (credentials.access_key.empty() || credentials.secret_key.empty())
    return absl::UnavailableError(StrCat(from, " gives no credentials"));
  absl::ParseTime(absl::RFC3339_full, text("Expiration"), &credentials.expires, nullptr);
  return credentials;
}

// The metadata services are on the machine or on its link: no proxy, no long wait, and no redirect,
// which would take credentials, or the wish for them, elsewhere.
absl::StatusOr<Response> Ask(const std::string& method, const std::string& url,
                             std::vector<std::string> headers, const std::atomic<bool>* stop) {
  Request request = {url, method, {}, Auth{std::move(headers)}, absl::Seconds(2)};
  request.direct = true;
  request.follow = false;
  return Fetch(request, kMaxAnswerBytes, /*retries=*/1, stop);
}

Found FromContainer(const std::atomic<bool>* stop) {
  std::string url = Environment("AWS_CONTAINER_CREDENTIALS_FULL_URI").value_or("");
  if (const auto path = Environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) {
    if (!path->starts_with('/'))
      return absl::InvalidArgumentError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with /");
    url = StrCat(kContainerHost, *path);
  }
  if (url.empty()) return std::nullopt;
  // ECS, EKS and this machine: nobody else on plain http (as AWS's own tools have it).
  const std::string origin = Origin(url);
  if (!origin.starts_with("https://") && !IsLoopbackUrl(url) &&
      std::find(std::begin(kTrustedOrigins), std::end(kTrustedOrigins), origin) ==
          std::end(kTrustedOrigins)) {
    return absl::FailedPreconditionError(StrCat("AWS_CONTAINER_CREDENTIALS_FULL_URI is at ",
                                                origin.empty() ? "no URL" : Printable(origin, 256),
                                                ", which is not trusted"));
  }
  std::string token = Environment("AWS_CONTAINER_AUTHORIZATION_TOKEN").value_or("");
  if (const auto file = Environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"))
    token =
        std::string(absl::StripAsciiWhitespace(ReadFile(*file, kMaxSettingsBytes).value_or("")));
  std::vector<std::string> headers;
  if (!token.empty()) headers.push_back(StrCat("Authorization: ", token));
  auto response = Ask("GET", url, headers, stop);
  if (!response.ok()) return Annotate(response.status(), "the container's credentials");
  if (response->head.status != 200)
    return HttpError(response->head.status, "the container's credentials");
  return FromJson(response->body, "the container's role");
}

Found FromInstance(const std::atomic<bool>* stop) {
  if (Environment("AWS_EC2_METADATA_DISABLED").value_or("") == "true") return std::nullopt;
  std::string host = Environment("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or(kInstanceHost);
  while (host.ends_with('/')) host.pop_back();
  const auto token =
      Ask("PUT", host + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds: 300"}, stop);
  if (!token.ok() || token->head.status != 200) return std::nullopt;  // no instance of EC2
  const std::vector<std::string> headers = {StrCat("X-aws-ec2-metadata-token: ", token->body)};
  const std::string path = host + "/latest/meta-data/iam/security-credentials/";
  const auto role = Ask("GET", path, headers, stop);
  if (!role.ok() || role->head.status != 200) return std::nullopt;  // without a role
  const std::string name(absl::StripAsciiWhitespace(role->body.substr(0, role->body.find('\n'))));
  const auto response = Ask("GET", path + UrlEncode(name), headers, stop);
  if (!response.ok()) return Annotate(response.status(), "the instance's role");
  if (response->head.status != 200) return HttpError(response->head.status, "the instance's role");
  return FromJson(response->body, "the instance's role");
}

}  // namespace

std::optional<std::string> IniValue(const std::string& text, const std::string& section,
                                    const std::string& key) {
  std::istringstream lines(text);
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    const std::string_view stripped = FromAbsl(absl::StripAsciiWhitespace(line));
    if (stripped.starts_with('[')) {
      inside = stripped == StrCat("[", section, "]");
    } else if (const size_t equals = stripped.find('=');
               inside && equals != stripped.npos && !stripped.starts_with('#')) {
      if (absl::StripAsciiWhitespace(ToAbsl(stripped.substr(0, equals))) == ToAbsl(key))
        return std::string(absl::StripAsciiWhitespace(ToAbsl(stripped.substr(equals + 1))));
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<AwsCredentials>> FindAwsCredentials(const std::atomic<bool>* stop) {
  for (const auto& place :
       {std::function<Found()>(FromEnvironment), std::function<Found()>(FromFiles),
        std::function<Found()>([stop] { return FromContainer(stop); }),
        std::function<Found()>([stop] { return FromInstance(stop); })}) {
    TRIREME_ASSIGN_OR_RETURN(auto found, place());
    if (found) return found;
  }
  return std::nullopt;
}

std::string FindAwsRegion() {
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
    if (auto region = Environment(name)) return *region;
  }
  return ConfigFileValue("region").value_or("us-east-1");
}

std::string FindS3Endpoint() {
  std::string endpoint =
      Environment("AWS_ENDPOINT_URL_S3").value_or(Environment("AWS_ENDPOINT_URL").value_or(""));
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint;
}

}  // namespace trireme::pull
