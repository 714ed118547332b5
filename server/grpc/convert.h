// Protobuf <-> the types that every door shares.
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/node/generation.h"
#include "trireme/v1/inference.pb.h"

namespace trireme::rpc {

// The wire's request as the doors' common one. Defaults come from the node. Only shape is checked
// here; values are checked by Prepare and the engine.
absl::StatusOr<TextRequest> ToTextRequest(const v1::GenerateRequest& proto, const Node& node);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& proto);

// What Prepare found wrong with ToTextRequest's result, told of the field by its name in `input`:
// "messages[1].role" is "chat.messages[1].role", and "prompt" may be "token_ids".
absl::Status InWireTerms(absl::Status status, v1::GenerateRequest::InputCase input);

// Replaces `out`, whose memory it uses again.
void FillDelta(const ChoiceDelta& delta, std::string_view request_id, v1::GenerateResponse* out);

// Code and message; field and machine-readable code travel as trailing metadata (see
// TrailingMetadata).
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace trireme::rpc
