#include "server/grpc/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/grpc/call_record.h"
#include "server/grpc/tsan_order.h"

namespace trireme::rpc {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

// Serialises `file` and everything it imports, imports last.
template <typename Response>
void AddFiles(const FileDescriptor* file, std::set<const FileDescriptor*>* seen,
              Response* response) {
  if (!seen->insert(file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->mutable_file_descriptor_response()->add_file_descriptor_proto(
      proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) AddFiles(file->dependency(i), seen, response);
}

template <typename Request, typename Response>
void Answer(const Request& request, const std::vector<std::string>& services, Response* response) {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const auto files = [&](const FileDescriptor* file, const std::string& what) {
    if (file == nullptr) {
      response->mutable_error_response()->set_error_code(grpc::StatusCode::NOT_FOUND);
      response->mutable_error_response()->set_error_message(what + " is not known");
      return;
    }
    std::set<const FileDescriptor*> seen;
    AddFiles(file, &seen, response);
  };
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return files(pool.FindFileByName(request.file_by_filename()), "that file");
    case Request::kFileContainingSymbol:
      return files(pool.FindFileContainingSymbol(request.file_containing_symbol()), "that symbol");
    case Request::kFileContainingExtension: {
      const auto& wanted = request.file_containing_extension();
      const auto* type = pool.FindMessageTypeByName(wanted.containing_type());
      const auto* extension =
          type == nullptr ? nullptr : pool.FindExtensionByNumber(type, wanted.extension_number());
      return files(extension == nullptr ? nullptr : extension->file(), "that extension");
    }
    case Request::kAllExtensionNumbersOfType: {
      const auto* type = pool.FindMessageTypeByName(request.all_extension_numbers_of_type());
      if (type == nullptr) return files(nullptr, "that type");
      std::vector<const google::protobuf::FieldDescriptor*> extensions;
      pool.FindAllExtensions(type, &extensions);
      auto* out = response->mutable_all_extension_numbers_response();
      out->set_base_type_name(type->full_name());
      for (const auto* extension : extensions) out->add_extension_number(extension->number());
      return;
    }
    case Request::kListServices:
      for (const std::string& name : services) {
        response->mutable_list_services_response()->add_service()->set_name(name);
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      response->mutable_error_response()->set_error_code(grpc::StatusCode::INVALID_ARGUMENT);
      response->mutable_error_response()->set_error_message("no request");
      return;
  }
}

// Reads one question, writes one answer, until the client has no more.
template <typename Request, typename Response>
class Reactor final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  Reactor(const ServiceContext* context, grpc::CallbackServerContext* call,
          const std::vector<std::string>* services)
      : services_(services),
        record_(context, "grpc.reflection.ServerReflection/ServerReflectionInfo", call) {
    if (auto tenant = record_.Authenticate(); !tenant.ok()) {
      End(tenant.status());
    } else {
      HandOver(this);
      this->StartRead(&request_);
    }
  }
  void OnReadDone(bool ok) override {
    TakeOver(this);
    if (!ok) return End(absl::OkStatus());
    response_.Clear();
    Answer(request_, *services_, &response_);
    HandOver(this);
    this->StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    TakeOver(this);
    if (!ok) return End(absl::CancelledError("the client went away"));
    HandOver(this);
    this->StartRead(&request_);
  }
  void OnDone() override {
    TakeOver(this);
    record_.Report();
    delete this;
  }

 private:
  void End(const absl::Status& status) {
    const grpc::Status end = record_.End(status);
    HandOver(this);
    this->Finish(end);
  }

  const std::vector<std::string>* const services_;
  CallRecord record_;
  Request request_;
  Response response_;
};

template <typename CallbackService, typename Request, typename Response>
class ReflectionService final : public CallbackService {
 public:
  ReflectionService(const ServiceContext* context, std::vector<std::string> services)
      : context_(context), services_(std::move(services)) {}
  grpc::ServerBidiReactor<Request, Response>* ServerReflectionInfo(
      grpc::CallbackServerContext* call) override {
    return new Reactor<Request, Response>(context_, call, &services_);
  }

 private:
  const ServiceContext* const context_;
  const std::vector<std::string> services_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionV1(const ServiceContext* context,
                                                std::vector<std::string> services) {
  namespace r = grpc::reflection::v1;
  return std::make_unique<
      ReflectionService<r::ServerReflection::CallbackService, r::ServerReflectionRequest,
                        r::ServerReflectionResponse>>(context, std::move(services));
}

std::unique_ptr<grpc::Service> MakeReflectionV1Alpha(const ServiceContext* context,
                                                     std::vector<std::string> services) {
  namespace r = grpc::reflection::v1alpha;
  return std::make_unique<
      ReflectionService<r::ServerReflection::CallbackService, r::ServerReflectionRequest,
                        r::ServerReflectionResponse>>(context, std::move(services));
}

}  // namespace trireme::rpc
