// The body of each POST route: an error of the wire's shape, or a request that is prepared within
// the node's limits. JSON that is accepted is printed and read again as the same.
#include "server/dialects/openai/errors.h"
#include "server/dialects/openai/requests.h"
#include "server/node/client_input.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_node.h"

namespace trireme::fuzz {
namespace {

void CheckApiError(const absl::Status& status) {
  const openai::ApiError error = openai::FromStatus(status);
  FUZZ_CHECK(
      error.http_status == 400 || error.http_status == 404 || error.code == "priority_not_allowed",
      error.message);
  FUZZ_CHECK(!error.message.empty() && error.message.size() < 4096, error.message);
  CheckError(status);
  const auto body = ParseJsonObject(openai::ErrorBody(error));
  FUZZ_CHECK(body.ok() && body->at("error").as_object().size() == 4, error.message);
}

void CheckRoundTrip(std::string_view data) {
  const auto object = ParseJsonObject(data);
  if (!object.ok()) return CheckError(object.status());
  const std::string printed = boost::json::serialize(*object);
  const auto again = ParseJsonObject(printed);
  FUZZ_CHECK(again.ok() && *again == *object, printed);
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
