// The audit log's records and what binds them together. One JSON object a line:
//
//   {"prev":"HASH","seq":7,"time":"...","event":"request", ... ,"hash":"HASH"}
//
// hash: SHA-256, in lower-case hexadecimal, of the line up to and without `,"hash":`. prev: the
// hash of the record before, so that a record that is changed, inserted, removed or moved breaks
// the chain there; 64 zeros in the first record. seq counts from 1. A file that was rotated goes on
// where the one before it ended. What a chain alone cannot show is that its end is missing: keep
// the last hash elsewhere and give it to audit-verify. And no key is in it: whoever can write the
// file can change a record and compute every hash from there on anew. The chain shows damage and
// careless tampering by itself; what shows the rest is a hash that was kept where that hand does
// not reach. The process log names one at each start, rotation and stop, and every
// AuditLog::kCheckpointRecords records or kCheckpointInterval: ship it to another machine.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/json_writer.h"

namespace trireme {

// Where a chain ends.
struct AuditChain {
  uint64_t seq = 0;
  std::string hash = std::string(64, '0');

  // Appends the next record and its line end to `out`. `write_fields` adds members of its own.
  void Append(std::string_view event, absl::Time wall,
              absl::FunctionRef<void(JsonWriter*)> write_fields, std::string* out);
};

inline constexpr size_t kMaxAuditLineBytes = 64 << 10;

// A record that is complete in itself, and where it stands; `line` has no line end. DATA_LOSS says
// what is wrong.
struct AuditRecord {
  std::string prev;
  AuditChain chain;  // after it
  bool is_stop = false;
};
absl::StatusOr<AuditRecord> ReadAuditRecord(std::string_view line);

// Checks one file after the other.
class AuditVerifier {
 public:
  // DATA_LOSS "line N: ...", of the first line that is wrong. A first file may begin inside a
  // chain (the files before it were removed); each further one must go on where the last ended, or
  // begin a whole new chain (record 1, with no hash before it): the log was moved away while the
  // node was down, or an end and a beginning were taken away; restarts() counts those. Anywhere
  // but at the beginning of a file that is a broken chain like any other.
  absl::Status Add(std::istream& file);

  uint64_t num_records() const { return num_records_; }
  uint64_t first_seq() const { return first_seq_; }
  const AuditChain& end() const { return end_; }
  // How many files but the first begin a new chain.
  int restarts() const { return restarts_; }
  // The last record says that the node stopped: nothing was to follow.
  bool stopped() const { return stopped_; }

 private:
  uint64_t num_records_ = 0, first_seq_ = 0;
  int restarts_ = 0;
  AuditChain end_;
  bool stopped_ = false;
};

}  // namespace trireme
