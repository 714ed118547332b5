#include "server/observe/audit_chain.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/observe/finished_request.h"
#include "server/observe/trace_context.h"

namespace trireme {
namespace {

constexpr std::string_view kPrevKey = R"({"prev":")";
constexpr std::string_view kSeqKey = R"(","seq":)";
constexpr std::string_view kHashKey = R"(,"hash":")";
constexpr std::string_view kLineEnd = R"("})";
constexpr size_t kHashDigits = 64;

std::string HashOf(std::string_view text) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest.data());
  return ToHex(digest);
}

absl::Status Broken(std::string_view what) { return absl::DataLossError(ToAbsl(what)); }

// Takes `expected` off the front of `text`.
bool Take(std::string_view expected, std::string_view* text) {
  if (!text->starts_with(expected)) return false;
  text->remove_prefix(expected.size());
  return true;
}

}  // namespace

void AuditChain::Append(std::string_view event, absl::Time wall,
                        absl::FunctionRef<void(JsonWriter*)> write_fields, std::string* out) {
  std::string record;
  JsonWriter json(&record);
  json.BeginObject().Key("prev").String(hash).Key("seq").Int(static_cast<int64_t>(++seq));
  json.Key("time").String(Timestamp(wall)).Key("event").String(event);
  write_fields(&json);
  hash = HashOf(record);
  StrAppend(out, record, kHashKey, hash, kLineEnd, "\n");
}

absl::StatusOr<AuditRecord> ReadAuditRecord(std::string_view line) {
  constexpr size_t kTail = kHashKey.size() + kHashDigits + kLineEnd.size();
  if (line.size() < kTail || !line.ends_with(kLineEnd)) return Broken("is no complete record");
  const std::string_view body = line.substr(0, line.size() - kTail);
  std::string_view tail = line.substr(body.size());
  if (!Take(kHashKey, &tail)) return Broken("is no complete record");
  AuditRecord record;
  record.chain.hash = std::string(tail.substr(0, kHashDigits));
  if (HashOf(body) != record.chain.hash) return Broken("was changed: its hash does not match");
  std::string_view head = body;
  if (!Take(kPrevKey, &head) || head.size() < kHashDigits) return Broken("has no \"prev\"");
  record.prev = std::string(head.substr(0, kHashDigits));
  head.remove_prefix(kHashDigits);
  const bool has_seq = Take(kSeqKey, &head);
  const auto [end, error] =
      std::from_chars(head.data(), head.data() + head.size(), record.chain.seq);
  if (!has_seq || error != std::errc()) return Broken("has no \"seq\"");
  record.is_stop = head.find(R"("event":"stop")") != std::string_view::npos;
  return record;
}

absl::Status AuditVerifier::Add(std::istream& file) {
  std::string line;
  for (uint64_t number = 1; file.peek() != std::istream::traits_type::eof(); ++number) {
    const auto broken = [number](std::string_view what) {
      return Broken(StrCat("line ", number, ": ", what));
    };
    line.clear();
    for (char c; line.size() <= kMaxAuditLineBytes && file.get(c) && c != '\n';) line += c;
    if (line.size() > kMaxAuditLineBytes) return broken("is longer than any record");
    if (file.eof()) return broken("is torn: it has no end");
    absl::StatusOr<AuditRecord> record = ReadAuditRecord(line);
    if (!record.ok()) return broken(FromAbsl(record.status().message()));
    if (number == 1 && num_records_ > 0 && record->chain.seq == 1 &&
        record->prev == AuditChain().hash) {
      ++restarts_;
      end_ = {};
    }
    const bool anchor = num_records_ == 0 && record->chain.seq > 1;
    if (!anchor && record->prev != end_.hash) {
      return broken("does not follow the record before: something was removed, added or moved");
    }
    if (!anchor && record->chain.seq != end_.seq + 1) {
      return broken(StrCat("has number ", record->chain.seq, ", not ", end_.seq + 1));
    }
    if (num_records_++ == 0) first_seq_ = record->chain.seq;
    end_ = std::move(record->chain);
    stopped_ = record->is_stop;
  }
  return absl::OkStatus();
}

}  // namespace trireme
