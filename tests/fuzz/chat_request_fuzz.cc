// The body of each POST route: an error of the wire's shape, or a request that is prepared within
// the node's limits. JSON that is accepted is printed and read again as the same.
#include <algorithm>
#include <cmath>

#include "server/dialects/openai/errors.h"
#include "server/dialects/openai/requests.h"
#include "server/node/client_input.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_node.h"

namespace trireme::fuzz {
namespace {

void CheckApiError(const absl::Status& status) {
  const openai::ApiError error = openai::FromStatus(status);
  FUZZ_CHECK(error.http_status == 400 || error.http_status == 404, error.message);
  FUZZ_CHECK(!error.message.empty() && error.message.size() < 4096, error.message);
  CheckError(status);
  const auto body = ParseJsonObject(openai::ErrorBody(error));
  FUZZ_CHECK(body.ok() && body->at("error").as_object().size() == 4, error.message);
}

// Boost.JSON rounds a decimal number to a neighbour of the nearest double at times.
bool Same(const boost::json::value& a, const boost::json::value& b) {
  if (a.is_double() && b.is_double()) {
    return std::abs(a.get_double() - b.get_double()) <= 1e-14 * std::abs(a.get_double());
  }
  if (a.kind() != b.kind()) return false;
  if (a.is_object()) {
    const auto& other = b.get_object();
    return a.get_object().size() == other.size() &&
           std::all_of(a.get_object().begin(), a.get_object().end(), [&](const auto& member) {
             const boost::json::value* value = other.if_contains(member.key());
             return value != nullptr && Same(member.value(), *value);
           });
  }
  if (a.is_array()) {
    return std::equal(a.get_array().begin(), a.get_array().end(), b.get_array().begin(),
                      b.get_array().end(), &Same);
  }
  return a == b;
}

void CheckRoundTrip(std::string_view data) {
  const auto object = ParseJsonObject(data);
  if (!object.ok()) return CheckError(object.status());
  const std::string printed = boost::json::serialize(*object);
  const auto again = ParseJsonObject(printed);
  FUZZ_CHECK(again.ok() && Same(*again, *object), printed);
}

}  // namespace

void OneInput(std::string_view data) {
  CheckRoundTrip(data);
  for (const bool chat : {true, false}) {
    auto request =
        chat ? openai::ParseChatRequest(data, {}) : openai::ParseCompletionRequest(data, {});
    if (!request.ok()) {
      CheckApiError(request.status());
      continue;
    }
    const auto prepared = Prepare(SmallNode(), request->text);
    if (prepared.ok()) {
      CheckPrepared(*prepared);
    } else {
      CheckApiError(request->InClientTerms(prepared.status()));
    }
  }
  if (const auto request = openai::ParseTokenizeRequest(data); !request.ok()) {
    CheckApiError(request.status());
  }
  if (const auto request = openai::ParseDetokenizeRequest(data); !request.ok()) {
    CheckApiError(request.status());
  }
}

}  // namespace trireme::fuzz
