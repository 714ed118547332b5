// The bytes of our service's calls <-> messages. Its methods take bytes from gRPC and not messages:
// gRPC 1.51 answers what it cannot parse with UNIMPLEMENTED and an empty text, and keeps what the
// proto does not define without a word.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace trireme::rpc {

// Fills `out`. INVALID_ARGUMENT for what is no such message, and for a field that it does not
// define, at any depth (code unknown_parameter; param is the field's path: "chat.messages[1].99").
// Time is linear in the bytes.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* out);

// Replaces `out`.
void SerializeMessage(const google::protobuf::Message& message, grpc::ByteBuffer* out);

}  // namespace trireme::rpc
