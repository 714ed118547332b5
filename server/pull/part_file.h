// A file that is being fetched: NAME.part holds its bytes in their places, NAME.part.json which of
// them are there, so that a fetch that was killed goes on later.
//
// Segments of the file are fetched side by side, each from its beginning to its end. What the state
// calls written was on the disk before the state was (fdatasync).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace trireme::pull {

// What makes two fetches fetches of the same bytes.
struct PartIdentity {
  std::string key;  // the checksum where one is known, else the URL
  int64_t size_bytes = 0;
  std::string validator;  // ETag or Last-Modified; empty: the server gives none
};

struct Segment {
  int64_t begin = 0, end = 0;  // bytes of the file
  int64_t written = 0;         // from `begin` on

  int64_t next() const { return begin + written; }
  bool done() const { return next() == end; }
};

inline constexpr int64_t kMinSegmentBytes = int64_t{8} << 20;

// One thread.
class PartFile {
 public:
  // Creates or opens `path`.part; its folder exists. Errors of the file system name it.
  static absl::StatusOr<std::unique_ptr<PartFile>> Open(const std::string& path);
  ~PartFile();

  // Plans the segments; what a state of the same identity has is kept. A state without validator
  // counts only when its key is a checksum (`verified`).
  absl::Status Begin(const PartIdentity& identity, bool verified);
  // The same without ranges: one segment, of any length when size_bytes is negative.
  absl::Status BeginWhole(const PartIdentity& identity);
  // Forgets all that was fetched.
  absl::Status Reset();

  bool begun() const { return begun_; }
  const PartIdentity& identity() const { return identity_; }
  // As the first answer gives it, where none was known before.
  void SetValidator(const std::string& validator) { identity_.validator = validator; }
  // Of what an earlier run has left; nullopt: nothing that could be gone on with.
  static std::optional<PartIdentity> SavedIdentity(const std::string& path);

  std::vector<Segment>& segments() { return segments_; }
  int64_t written_bytes() const;
  bool done() const;

  // Precondition: within the segment. RESOURCE_EXHAUSTED when the disk is full.
  absl::Status Write(Segment* segment, absl::Span<const char> data);
  // Makes what was written survive. Cheap when nothing was.
  absl::Status Save();
  // Of a whole file whose length was not known: this is its end.
  void SetEnd();

  const std::string& part_path() const { return part_path_; }

 private:
  PartFile(std::string path, int fd);
  void Plan();
  bool Restore(bool verified);

  const std::string path_, part_path_, state_path_;
  const int fd_;
  PartIdentity identity_;
  std::vector<Segment> segments_;
  bool begun_ = false;
  bool resumable_ = true;
  bool dirty_ = false;
};

// Flushes, then renames `part` to `path` and flushes the folder; the state is removed. Any thread.
absl::Status CommitPart(const std::string& path);

// Writes a small file so that it is there whole or not at all.
absl::Status WriteFileAtomically(const std::string& path, const std::string& content);

}  // namespace trireme::pull
