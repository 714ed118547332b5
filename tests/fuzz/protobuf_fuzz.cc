// The bytes of a GenerateRequest: no message, a precise error, or requests within the node's
// limits. What is a message is the same when it is written and read again.
#include "runtime/base/status.h"
#include "server/grpc/convert.h"
#include "server/grpc/wire.h"
#include "server/node/generation.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_node.h"

namespace trireme::fuzz {

void OneInput(std::string_view data) {
  const auto check = [](const absl::Status& status) {
    CheckError(status);
    FUZZ_CHECK(absl::IsInvalidArgument(status) || absl::IsNotFound(status) ||
                   ErrorCode(status) == "priority_not_allowed",
               "the client's fault");
  };
  v1::GenerateRequest wire;
  const grpc::Slice slice(data.data(), data.size());
  const absl::Status parsed = rpc::ParseMessage(grpc::ByteBuffer(&slice, 1), &wire);
  if (!parsed.ok()) return check(parsed);
  v1::GenerateRequest again;
  const std::string written = wire.SerializeAsString();
  FUZZ_CHECK(again.ParseFromString(written) && again.SerializeAsString() == written, written);

  const Node& node = SmallNode();
  const auto request = rpc::ToTextRequest(wire, node);
  if (!request.ok()) return check(request.status());
  const auto prepared = Prepare(node, *request);
  if (!prepared.ok()) return check(prepared.status());
  CheckPrepared(*prepared);
}

}  // namespace trireme::fuzz
