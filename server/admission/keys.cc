#include "server/admission/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr std::string_view kDigestPrefix = "sha256:";
constexpr std::string_view kDefaultTenant = "default";
constexpr std::string_view kPriorityRight = "priority";
constexpr std::string_view kBlanks = " \t\r";

std::array<uint8_t, 32> Digest(std::string_view key) {
  std::array<uint8_t, 32> digest;
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), digest.data());
  return digest;
}

// The next blank-separated word of `line`, which loses it.
std::string_view TakeWord(std::string_view* line) {
  const size_t begin = std::min(line->find_first_not_of(kBlanks), line->size());
  const size_t end = std::min(line->find_first_of(kBlanks, begin), line->size());
  const std::string_view word = line->substr(begin, end - begin);
  line->remove_prefix(end);
  return word;
}

bool IsTenant(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

absl::StatusOr<KeyEntry> ParseLine(std::string_view line) {
  const std::string_view key = TakeWord(&line);
  const std::string_view tenant = TakeWord(&line);
  const std::string_view right = TakeWord(&line);
  if (!TakeWord(&line).empty()) {
    return absl::InvalidArgumentError("more than a key, a tenant and the word 'priority'");
  }
  if (!right.empty() && right != kPriorityRight) {
    return absl::InvalidArgumentError("after key and tenant only the word 'priority' may stand");
  }
  if (tenant == kPriorityRight) {
    return absl::InvalidArgumentError(
        "'priority' is the name of a right and not of a tenant; write KEY TENANT priority");
  }
  KeyEntry entry;
  entry.may_raise_priority = !right.empty();
  entry.tenant = std::string(tenant.empty() ? kDefaultTenant : tenant);
  if (!IsTenant(entry.tenant)) {
    return absl::InvalidArgumentError("a tenant is 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  if (!key.starts_with(kDigestPrefix)) {
    if (key.size() > KeyStore::kMaxPresentedBytes)
      return absl::InvalidArgumentError("key too long");
    entry.digest = Digest(key);
    return entry;
  }
  const std::string_view hex = key.substr(kDigestPrefix.size());
  if (hex.size() != 64 || !std::all_of(hex.begin(), hex.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError("sha256: wants 64 hexadecimal digits");
  }
  const std::string bytes = absl::HexStringToBytes(ToAbsl(hex));
  std::copy(bytes.begin(), bytes.end(), entry.digest.begin());
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view text,
                                                std::vector<int>* short_lines) {
  std::vector<KeyEntry> keys;
  for (int line_number = 1; !text.empty(); ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t first = line.find_first_not_of(kBlanks);
    if (first == std::string_view::npos || line[first] == '#') continue;
    std::string_view words = line;
    const std::string_view key = TakeWord(&words);
    if (short_lines != nullptr && key.size() < kMinKeyBytes) short_lines->push_back(line_number);
    absl::StatusOr<KeyEntry> entry = ParseLine(line);
    if (!entry.ok()) return Annotate(entry.status(), StrCat("line ", line_number));
    if (keys.size() == KeyStore::kMaxKeys) {
      return absl::InvalidArgumentError(StrCat("more than ", KeyStore::kMaxKeys, " keys"));
    }
    keys.push_back(*std::move(entry));
  }
  if (keys.empty()) return absl::InvalidArgumentError("holds no key");
  std::vector<std::array<uint8_t, 32>> digests;
  for (const KeyEntry& key : keys) digests.push_back(key.digest);
  std::sort(digests.begin(), digests.end());
  if (std::adjacent_find(digests.begin(), digests.end()) != digests.end()) {
    return absl::InvalidArgumentError("the same key twice");
  }
  return keys;
}

std::unique_ptr<KeyStore> KeyStore::Open() {
  return std::unique_ptr<KeyStore>(new KeyStore("", {}, absl::InfiniteDuration(), nullptr));
}

absl::StatusOr<std::unique_ptr<KeyStore>> KeyStore::Open(const std::string& path,
                                                         absl::Duration poll_interval,
                                                         Reloaded reloaded) {
  TRIREME_ASSIGN_OR_RETURN(Loaded loaded, Load(path));
  return std::unique_ptr<KeyStore>(
      new KeyStore(path, std::move(loaded), poll_interval, std::move(reloaded)));
}

KeyStore::KeyStore(std::string path, Loaded loaded, absl::Duration poll_interval, Reloaded reloaded)
    : path_(std::move(path)),
      poll_interval_(poll_interval),
      reloaded_(std::move(reloaded)),
      keys_(std::make_shared<std::vector<KeyEntry>>(std::move(loaded.keys))),
      seen_(loaded.version) {
  if (!path_.empty() && poll_interval != absl::InfiniteDuration()) {
    watcher_ = std::thread([this] { Watch(); });
  }
}

KeyStore::~KeyStore() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

// Reads through one descriptor, so that the version belongs to the bytes even when the file is
// replaced meanwhile.
absl::StatusOr<KeyStore::Loaded> KeyStore::Load(const std::string& path) {
  struct stat info = {};
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes, &info);
  if (!text.ok()) return Annotate(text.status(), "key file");
  if ((info.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0) {
    Log(LogLevel::kWarning, "key file is accessible to group or others; chmod 600 it");
  }
  std::vector<int> short_lines;
  absl::StatusOr<std::vector<KeyEntry>> keys = ParseKeys(*text, &short_lines);
  if (!keys.ok()) return Annotate(keys.status(), StrCat("key file ", path));
  if (!short_lines.empty()) {
    Log(LogLevel::kWarning, "keys that can be guessed; make longer ones: openssl rand -hex 24",
        {{"keys", short_lines.size()},
         {"first_line", short_lines.front()},
         {"below_bytes", kMinKeyBytes}});
  }
  return Loaded{*std::move(keys), VersionOf(info)};
}

KeyStore::FileVersion KeyStore::VersionOf(const struct stat& info) {
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size = static_cast<uint64_t>(info.st_size),
          .modified_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

std::optional<Tenant> KeyStore::Authenticate(std::string_view presented) const {
  if (!required()) return Tenant{};
  if (presented.empty() || presented.size() > kMaxPresentedBytes) return std::nullopt;
  std::shared_ptr<const std::vector<KeyEntry>> keys;
  {
    std::lock_guard lock(mu_);
    keys = keys_;
  }
  const std::array<uint8_t, 32> digest = Digest(presented);
  // All of them, whatever matched: the time tells nothing about which key was close.
  const KeyEntry* found = nullptr;
  for (const KeyEntry& key : *keys) {
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
  }
  if (found == nullptr) return std::nullopt;
  return Tenant{.id = found->tenant, .may_raise_priority = found->may_raise_priority};
}

absl::StatusOr<Tenant> KeyStore::AuthenticateCaller(std::string_view authorization,
                                                    std::string_view api_key) const {
  constexpr std::string_view kBearer = "Bearer ";
  const bool bearer = absl::StartsWithIgnoreCase(ToAbsl(authorization), ToAbsl(kBearer));
  const std::string_view key = bearer ? authorization.substr(kBearer.size()) : api_key;
  if (std::optional<Tenant> tenant = Authenticate(key)) return *std::move(tenant);
  return WithCode(
      absl::UnauthenticatedError(
          key.empty() ? "No API key was provided. Send it as 'Authorization: Bearer KEY'."
                      : "Incorrect API key provided."),
      "invalid_api_key");
}

bool KeyStore::ReloadIfChanged() {
  if (!required()) return false;
  struct stat info;
  const FileVersion now = stat(path_.c_str(), &info) == 0 ? VersionOf(info) : FileVersion{};
  {
    std::lock_guard lock(mu_);
    if (now == seen_) return false;
    seen_ = now;
  }
  absl::StatusOr<Loaded> loaded = Load(path_);
  if (!loaded.ok()) {
    Log(LogLevel::kError, "key file refused; the keys before it stay in force",
        {{"error", FromAbsl(loaded.status().message())}});
    size_t in_force = 0;
    {
      std::lock_guard lock(mu_);
      in_force = keys_->size();
    }
    if (reloaded_) reloaded_(/*accepted=*/false, in_force);
    return false;
  }
  const size_t count = loaded->keys.size();
  {
    std::lock_guard lock(mu_);
    keys_ = std::make_shared<std::vector<KeyEntry>>(std::move(loaded->keys));
    seen_ = loaded->version;
  }
  Log(LogLevel::kInfo, "key file reloaded", {{"keys", count}});
  if (reloaded_) reloaded_(/*accepted=*/true, count);
  return true;
}

void KeyStore::Watch() {
  for (;;) {
    {
      std::unique_lock lock(mu_);
      const auto interval = absl::ToChronoNanoseconds(poll_interval_);
      if (stop_.wait_for(lock, interval, [this] { return stopping_; })) return;
    }
    ReloadIfChanged();
  }
}

}  // namespace trireme
