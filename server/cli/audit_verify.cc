// trireme audit-verify: checks the hash chain of an audit log.
#include <cerrno>
#include <fstream>
#include <iostream>
#include <string>

#include "runtime/base/json_writer.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/observe/audit_chain.h"

namespace trireme {
namespace {

absl::Status Verify(const AuditOptions& options, AuditVerifier* verifier) {
  for (const std::string& path : options.files) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return absl::NotFoundError(StrCat(path, ": ", ErrnoText(errno)));
    const absl::Status status = verifier->Add(file);
    if (!status.ok()) return absl::DataLossError(StrCat(path, ": ", FromAbsl(status.message())));
  }
  if (verifier->num_records() == 0) return absl::DataLossError("there is no record");
  if (!options.last_hash.empty() && options.last_hash != verifier->end().hash) {
    return absl::DataLossError(StrCat(
        "it does not end with that hash: rewritten, or its end is missing; the last hash is ",
        verifier->end().hash));
  }
  // Each chain is whole; that one follows the other is what no record shows.
  if (verifier->restarts() > 0) {
    return absl::FailedPreconditionError(
        StrCat("restarted: ", verifier->restarts(),
               verifier->restarts() == 1 ? " file begins a new chain" : " files begin new chains",
               ", and every chain is whole. That is so when the log was moved away while the node "
               "was down; nothing shows that no record is missing between them"));
  }
  return absl::OkStatus();
}

void PrintForPeople(const AuditVerifier& verifier) {
  std::cout << "ok: records " << verifier.first_seq() << " to " << verifier.end().seq
            << ", last hash " << verifier.end().hash << "\n";
  if (verifier.first_seq() > 1) {
    std::cout << "note: what came before record " << verifier.first_seq()
              << " was not among the files\n";
  }
  if (!verifier.stopped()) {
    std::cout << "note: it does not end with a stop: the node runs, was killed, or the end was cut "
                 "off\n";
  }
}

void PrintJson(const absl::Status& status, const AuditVerifier& verifier) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("ok").Bool(status.ok());
  json.Key("verdict").String(status.ok()                          ? "ok"
                             : absl::IsFailedPrecondition(status) ? "restarted"
                                                                  : "broken");
  json.Key("error");
  status.ok() ? json.Null() : json.String(FromAbsl(status.message()));
  json.Key("records").Int(static_cast<int64_t>(verifier.num_records()));
  json.Key("first").Int(static_cast<int64_t>(verifier.first_seq()));
  json.Key("restarts").Int(verifier.restarts());
  json.Key("last").Int(static_cast<int64_t>(verifier.end().seq));
  json.Key("last_hash").String(verifier.end().hash);
  json.Key("stopped").Bool(verifier.stopped()).EndObject();
  std::cout << out << "\n";
}

}  // namespace

int RunAuditVerify(const Options& options) {
  AuditVerifier verifier;
  const absl::Status status = Verify(options.audit, &verifier);
  if (options.json) {
    PrintJson(status, verifier);
  } else if (status.ok()) {
    PrintForPeople(verifier);
  } else {
    std::cerr << "trireme audit-verify: " << std::string(status.message()) << "\n";
  }
  return status.ok() ? kExitOk : kExitFailure;
}

}  // namespace trireme
