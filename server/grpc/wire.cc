#include "server/grpc/wire.h"

#include <google/protobuf/unknown_field_set.h>
#include <grpc/slice.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <limits>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::rpc {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// `path`: of the message itself, with a dot behind it; empty for the request. Messages do not nest
// deeper than the proto says (what nests in unknown fields is not gone into).
absl::Status CheckNothingUnknown(const Message& message, const std::string& path) {
  const Reflection& reflection = *message.GetReflection();
  const auto& unknown = reflection.GetUnknownFields(message);
  if (!unknown.empty()) {
    const int number = unknown.field(0).number();
    return InvalidParam(StrCat(path, number),
                        StrCat("field ", number, " is not defined in ",
                               message.GetDescriptor()->full_name(), " as this server knows it"),
                        "unknown_parameter");
  }
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      TRIREME_RETURN_IF_ERROR(CheckNothingUnknown(reflection.GetMessage(message, field),
                                                  StrCat(path, field->name(), ".")));
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      TRIREME_RETURN_IF_ERROR(CheckNothingUnknown(reflection.GetRepeatedMessage(message, field, i),
                                                  StrCat(path, field->name(), "[", i, "].")));
    }
  }
  return absl::OkStatus();
}

bool Parse(const grpc::ByteBuffer& bytes, Message* out) {
  grpc::ByteBuffer shared = bytes;  // the reader wants a buffer that it may change
  if (!shared.Valid()) return false;
  grpc::ProtoBufferReader reader(&shared);
  return reader.status().ok() && out->ParseFromZeroCopyStream(&reader);
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, Message* out) {
  if (Parse(bytes, out)) return CheckNothingUnknown(*out, "");
  return absl::InvalidArgumentError(StrCat(
      "We could not parse the request as ", out->GetDescriptor()->full_name(),
      ": a tag or length is malformed or cut off, a string is not UTF-8, or groups are nested "
      "more than 100 deep."));
}

void SerializeMessage(const Message& message, grpc::ByteBuffer* out) {
  const size_t size = message.ByteSizeLong();
  TRIREME_CHECK(size <= std::numeric_limits<int32_t>::max());  // protobuf's limit
  grpc_slice bytes = grpc_slice_malloc(size);
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(bytes));
  const grpc::Slice slice(bytes, grpc::Slice::STEAL_REF);
  grpc::ByteBuffer buffer(&slice, 1);
  out->Swap(&buffer);
}

}  // namespace trireme::rpc
