#include "server/grpc/library_logs.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <string>

#include "runtime/base/log.h"

namespace trireme::rpc {
namespace {

void FromProtobuf(google::protobuf::LogLevel level, const char*, int, const std::string& message) {
  using google::protobuf::LOGLEVEL_FATAL;
  Log(level == LOGLEVEL_FATAL ? LogLevel::kError : LogLevel::kDebug, "protobuf",
      {{"message", message}});
}

void FromGrpc(gpr_log_func_args* args) {
  Log(args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug, "grpc",
      {{"message", args->message}});
}

}  // namespace

void RouteLibraryLogs() {
  google::protobuf::SetLogHandler(FromProtobuf);
  gpr_set_log_function(FromGrpc);
}

}  // namespace trireme::rpc
