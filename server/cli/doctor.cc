// trireme doctor: flags in, findings out; the checks are server/doctor's.
#include "server/doctor/doctor.h"

#include <unistd.h>

#include <iostream>

#include "runtime/base/log.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"

namespace trireme {

int RunDoctor(const Options& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  WarnOfUnknownVariables(options);
  const ServeOptions& serve = options.serve;
  doctor::Settings settings;
  settings.load = options.load;
  settings.address = serve.host;
  settings.http_port = serve.http_port;
  settings.grpc_port = serve.grpc_port;
  settings.max_connections = serve.max_connections;
  settings.api_keys_file = serve.api_keys_file;
  settings.tls_cert_file = serve.tls_cert_file;
  settings.tls_key_file = serve.tls_key_file;
  settings.model_error = options.model_error;
  const doctor::Findings findings = doctor::Examine(doctor::ThisHost(), settings);
  if (options.json) {
    std::cout << doctor::JsonReport(findings) << std::flush;
  } else {
    std::cout << doctor::TextReport(findings, isatty(STDOUT_FILENO) != 0) << std::flush;
  }
  return doctor::HasError(findings) || !std::cout ? kExitFailure : kExitOk;
}

}  // namespace trireme
