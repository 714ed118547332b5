#include "server/observe/finished_request.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <optional>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

using Outcome = FinishedRequest::Outcome;

// Of the ends whose status differs with the door, or says 200 because a stream had begun.
std::optional<Outcome> OfErrorCode(std::string_view code) {
  if (code == "cancelled") return Outcome::kCancelled;
  if (code == "slow_reader") return Outcome::kClientGone;
  if (code == "overloaded") return Outcome::kRefused;
  if (code == "deadline_exceeded" || code == "draining" || code == "shutting_down") {
    return Outcome::kFailed;
  }
  return std::nullopt;
}

Outcome OfGrpcCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return Outcome::kOk;
    case absl::StatusCode::kCancelled:
      return Outcome::kClientGone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kResourceExhausted:
      return Outcome::kRefused;
    default:
      return Outcome::kFailed;
  }
}

bool IsPrivateV4(uint32_t a) {
  return (a >> 24) == 10 || (a >> 20) == 0xac1 || (a >> 16) == 0xc0a8 || (a >> 16) == 0xa9fe;
}

std::string_view KindOfV4(uint32_t address) {
  if ((address >> 24) == 127) return "loopback";
  return IsPrivateV4(address) ? "private" : "public";
}

// The address in gRPC's "ipv6:%5B::1%5D:5000" and the like.
std::string BareAddress(std::string_view text) {
  for (const std::string_view scheme : {"ipv4:", "ipv6:"}) {
    if (!text.starts_with(scheme)) continue;
    text.remove_prefix(scheme.size());
    text = text.substr(0, text.rfind(':'));
    if (text.starts_with("%5B")) text.remove_prefix(3);
    if (text.ends_with("%5D")) text.remove_suffix(3);
    if (text.starts_with('[')) text.remove_prefix(1);
    if (text.ends_with(']')) text.remove_suffix(1);
  }
  return std::string(text.substr(0, text.find('%')));  // without a scope
}

}  // namespace

Outcome FinishedRequest::outcome() const {
  if (const std::optional<Outcome> told = OfErrorCode(error_code)) return *told;
  if (client_gone) return Outcome::kClientGone;
  if (door == Door::kGrpc) return OfGrpcCode(grpc_code);
  if (http_status >= 400) return http_status < 500 ? Outcome::kRefused : Outcome::kFailed;
  return error_code.empty() ? Outcome::kOk : Outcome::kFailed;  // the last event of a stream
}

std::string RandomId(std::string_view prefix) {
  std::array<uint8_t, 16> bits;
  TRIREME_CHECK(RAND_bytes(bits.data(), bits.size()) == 1);
  return StrCat(prefix, ToHex(bits));
}

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kCancelled:
      return "cancelled";
    case Outcome::kClientGone:
      break;
  }
  return "client_gone";
}

std::vector<FinishedRequest::Phase> FinishedRequest::phases() const {
  std::vector<Phase> out;
  if (!generated()) return out;
  // A time that has not come is the epoch.
  const auto until = [this](absl::Time time, absl::Time otherwise) {
    return std::min(time > absl::UnixEpoch() ? time : otherwise, end);
  };
  const absl::Time stopped = until(work.finished, end);
  out.push_back({"queue", work.arrival, until(work.first_scheduled, stopped)});
  if (work.first_scheduled <= absl::UnixEpoch()) return out;
  out.push_back({"prefill", out.back().end, until(work.first_token, stopped)});
  if (work.first_token <= absl::UnixEpoch()) return out;
  out.push_back({"decode", out.back().end, until(work.last_token, stopped)});
  return out;
}

std::vector<std::string_view> FinishedRequest::FinishNames() const {
  const Outcome how = outcome();
  const bool given_up = how == Outcome::kCancelled || how == Outcome::kClientGone;
  std::vector<std::string_view> names;
  for (const FinishReason reason : finish_reasons) {
    names.push_back(reason == FinishReason::kStop     ? "stop"
                    : reason == FinishReason::kLength ? "length"
                    : given_up                        ? "cancelled"
                                                      : "error");
  }
  return names;
}

void WriteIdentity(const FinishedRequest& request, JsonWriter* json) {
  const bool http = request.door == FinishedRequest::Door::kHttp;
  json->Key("request_id").String(request.id);
  json->Key("tenant").String(request.tenant);
  json->Key("door").String(http ? "http" : "grpc");
  json->Key("method").String(request.method).Key("route").String(request.route);
  if (http) {
    json->Key("status").Int(request.http_status);
  } else {
    json->Key("grpc_code").String(absl::StatusCodeToString(request.grpc_code));
  }
  json->Key("outcome").String(OutcomeName(request.outcome()));
  if (!request.error_code.empty()) json->Key("error_code").String(request.error_code);
}

void WriteTokens(const FinishedRequest& request, JsonWriter* json) {
  if (!request.generated()) return;
  json->Key("model").String(request.model);
  json->Key("prompt_tokens").Int(request.work.prompt_tokens);
  json->Key("cached_tokens").Int(request.work.cached_prompt_tokens);
  json->Key("completion_tokens").Int(request.work.generated_tokens);
}

std::string Timestamp(absl::Time wall) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", wall, absl::UTCTimeZone());
}

std::string_view PeerKind(std::string_view address) {
  const std::string bare = BareAddress(address);
  in_addr v4;
  if (inet_pton(AF_INET, bare.c_str(), &v4) == 1) return KindOfV4(ntohl(v4.s_addr));
  in6_addr v6;
  if (inet_pton(AF_INET6, bare.c_str(), &v6) != 1) return "other";
  if (IN6_IS_ADDR_LOOPBACK(&v6)) return "loopback";
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    const uint8_t* a = v6.s6_addr + 12;
    return KindOfV4(uint32_t{a[0]} << 24 | uint32_t{a[1]} << 16 | uint32_t{a[2]} << 8 | a[3]);
  }
  const bool local = (v6.s6_addr[0] & 0xfe) == 0xfc || IN6_IS_ADDR_LINKLOCAL(&v6);
  return local ? "private" : "public";
}

}  // namespace trireme
