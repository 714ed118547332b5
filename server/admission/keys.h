// API keys: who may call, and as which tenant. Shared by every door.
//
// The key file is text, one key per line:
//
//   # comment
//   sk-example-key              the key itself, tenant "default"
//   sk-other-key  team-a        the key itself and its tenant
//   sha256:<64 hex> team-b      only the SHA-256 of the key (printf %s KEY | sha256sum)
//   sk-third-key  ops priority  a key that may ask for a priority below 0 (go before everybody)
//
// Tenants match [A-Za-z0-9._-]{1,64}, but none is called "priority". Only digests stay in memory. A
// changed file is picked up within a second; a file that no longer reads (gone, malformed, without
// any key) is logged and the keys before it stay in force, so that a half-written file neither
// opens nor closes the node.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct stat;

namespace trireme {

struct Tenant {
  std::string id;  // empty: anonymous, no keys are configured
  // Of the key. Never of the anonymous tenant: strangers to each other share it.
  bool may_raise_priority = false;
};

struct KeyEntry {
  std::array<uint8_t, 32> digest;  // SHA-256 of the key
  std::string tenant;
  bool may_raise_priority = false;
};

// INVALID_ARGUMENT naming the line (never its content): malformed digest or tenant, an unknown
// right, a key twice, no key at all. `short_lines` (may be null) gets the lines whose key has fewer
// than kMinKeyBytes: such keys can be guessed.
inline constexpr size_t kMinKeyBytes = 16;
absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view text,
                                                std::vector<int>* short_lines = nullptr);

// Thread-safe.
class KeyStore {
 public:
  static constexpr size_t kMaxFileBytes = 1 << 20;
  static constexpr size_t kMaxKeys = 10000;  // every check compares all of them
  static constexpr size_t kMaxPresentedBytes = 4096;
  static constexpr absl::Duration kPollInterval = absl::Seconds(1);

  // Without keys: everybody is the anonymous tenant.
  static std::unique_ptr<KeyStore> Open();
  // Reads `path` and watches it every `poll_interval` (InfiniteDuration: only ReloadIfChanged reads
  // again). Errors of ReadFile (runtime/base/file.h) and ParseKeys. Warns when group or others
  // can read the file, and of short keys.
  // `reloaded` (may be null) is told of each changed file, on the thread that read it: whether its
  // keys are in force, and how many there are now.
  using Reloaded = std::function<void(bool accepted, size_t num_keys)>;
  static absl::StatusOr<std::unique_ptr<KeyStore>> Open(
      const std::string& path, absl::Duration poll_interval = kPollInterval,
      Reloaded reloaded = nullptr);
  ~KeyStore();

  bool required() const { return !path_.empty(); }

  // The tenant of a presented key; nullopt when it is none of ours. Takes the same time whichever
  // key matches, or none.
  std::optional<Tenant> Authenticate(std::string_view presented) const;
  // The same of what every door takes: `authorization` is "Bearer KEY" (the scheme in any case),
  // or else `api_key` the key itself. UNAUTHENTICATED, code invalid_api_key.
  absl::StatusOr<Tenant> AuthenticateCaller(std::string_view authorization,
                                            std::string_view api_key) const;

  // Reads the file again when its identity, size or time changed. True when new keys are in force.
  bool ReloadIfChanged();

 private:
  // What tells one version of the file from the next; a rename over it changes the inode.
  struct FileVersion {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0;
    bool operator==(const FileVersion&) const = default;
  };
  struct Loaded {
    std::vector<KeyEntry> keys;
    FileVersion version;
  };

  KeyStore(std::string path, Loaded loaded, absl::Duration poll_interval, Reloaded reloaded);
  static absl::StatusOr<Loaded> Load(const std::string& path);
  static FileVersion VersionOf(const struct stat& info);
  void Watch();

  const std::string path_;  // empty: no keys
  const absl::Duration poll_interval_;
  const Reloaded reloaded_;
  mutable std::mutex mu_;
  std::condition_variable stop_;
  // Guarded by mu_.
  std::shared_ptr<const std::vector<KeyEntry>> keys_;
  FileVersion seen_;  // also of a refused version: it is reported once
  bool stopping_ = false;
  std::thread watcher_;  // runs only with a finite interval
};

}  // namespace trireme
