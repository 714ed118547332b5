#include "server/pull/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "absl/strings/ascii.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/cache.h"
#include "server/pull/environment.h"
#include "server/pull/listing.h"
#include "server/pull/source.h"

namespace trireme::pull {
namespace {

namespace fs = std::filesystem;

// Held while a folder is written to.
class FolderLock {
 public:
  static absl::StatusOr<FolderLock> Take(const std::string& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return absl::UnavailableError(StrCat(folder, ": ", error.message()));
    FolderLock lock;
    lock.fd_ = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock.fd_ < 0) return absl::UnavailableError(StrCat(folder, ": ", ErrnoText(errno)));
    if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(
          StrCat("another pull is writing to ", folder, ": wait for it"));
    }
    return lock;
  }
  FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (fd_ >= 0) close(fd_);
  }

 private:
  FolderLock() = default;
  int fd_ = -1;
};

bool IsOffline(const PullOptions& options) {
  const std::string hub = Environment("HF_HUB_OFFLINE").value_or("");
  const std::string word = absl::AsciiStrToLower(hub);
  return options.offline || word == "1" || word == "true" || word == "yes" || word == "on";
}

// What to do without a network.
std::string OfflineAdvice(const Source& source, const std::string& target) {
  const std::string elsewhere = StrCat("on a machine with a network, run `trireme pull ",
                                       source.text, " --output FOLDER`, and copy ");
  const bool one_file = source.scheme == Scheme::kHttps ||
                        (source.scheme == Scheme::kHuggingFace && !source.path.empty());
  if (one_file)
    return StrCat(elsewhere, "FOLDER/", BaseName(source.path), " to ", target, " on this one");
  return StrCat(elsewhere, "what is in FOLDER to ", target, "/ on this one");
}

struct Plan {
  std::string folder;
  std::vector<RemoteFile> files;
  bool one_file = false;  // the source is a file, so there is no manifest
  Manifest manifest;      // of a set: as it will be
};

absl::StatusOr<Listing> List(const Source& source, const PullOptions& options,
                             const std::atomic<bool>* stop) {
  ListOptions list = {options.revision.empty() ? source.revision : options.revision,
                      options.retries, options.timeout, stop};
  if (list.revision.empty()) list.revision = "main";
  if (source.scheme == Scheme::kS3) return ListS3(source, list);
  if (source.scheme == Scheme::kHuggingFace) {
    TRIREME_ASSIGN_OR_RETURN(Listing listing, ListHuggingFace(source, list));
    auto selected = SelectModelFiles(std::move(listing.files), source.path);
    if (!selected.ok()) return Annotate(selected.status(), source.root);
    listing.files = *std::move(selected);
    return listing;
  }
  RemoteFile file;
  file.name = std::string(BaseName(source.path));
  file.url = source.text + source.query;
  return Listing{"", {std::move(file)}};
}

absl::Status ApplySha256(const PullOptions& options, const Plan& plan, RemoteFile* file) {
  if (options.sha256.empty()) return absl::OkStatus();
  if (!plan.one_file) {
    return absl::InvalidArgumentError(
        "--sha256 is of one file, and SOURCE is a folder: name the file");
  }
  auto wanted = MakeChecksum(Checksum::Kind::kSha256, options.sha256);
  if (!wanted.ok()) return Annotate(wanted.status(), "--sha256");
  if (file->checksum && file->checksum->kind == Checksum::Kind::kSha256 &&
      file->checksum->hex != wanted->hex) {
    return absl::DataLossError(StrCat(file->name, ": its sha256 is ", file->checksum->hex,
                                      ", says the source, not that of --sha256"));
  }
  file->checksum = *std::move(wanted);
  return absl::OkStatus();
}

absl::StatusOr<Plan> MakePlan(const Source& source, const PullOptions& options, Listing listing,
                              const std::string& target) {
  Plan plan;
  plan.one_file =
      source.scheme == Scheme::kHttps || (!source.path.empty() && listing.files.size() == 1 &&
                                          BaseName(listing.files[0].name) == BaseName(source.path));
  plan.folder = !options.output.empty() ? options.output
                : plan.one_file         ? fs::path(target).parent_path().string()
                                        : target;
  plan.files = std::move(listing.files);
  plan.manifest = {source.text, listing.revision};
  std::set<std::string> names;
  for (RemoteFile& file : plan.files) {
    if (plan.one_file) file.name = std::string(BaseName(file.name));
    TRIREME_RETURN_IF_ERROR(ApplySha256(options, plan, &file));
    if (!names.insert(file.name).second) {
      return absl::FailedPreconditionError(
          StrCat(source.text, " lists ", Printable(file.name), " twice"));
    }
    plan.manifest.files.push_back(
        {file.name, file.size_bytes, file.checksum ? file.checksum->Text() : "", ""});
  }
  return plan;
}

// Where the manifest of what a plan fetches stands.
std::string ManifestPath(const Plan& plan) {
  return plan.one_file ? ManifestOfFile(plan.folder + "/" + plan.files[0].name)
                       : ManifestOfFolder(plan.folder);
}

// What is fetched by it: the same for every revision and spelling. Empty: no source of ours.
std::string Identity(const std::string& text, bool one_file) {
  const auto source = ParseSource(text);
  if (!source.ok()) return "";
  const std::string& path = source->path;
  switch (source->scheme) {
    case Scheme::kHuggingFace:
      return StrCat("hf://", source->root);
    case Scheme::kHttps:
      return source->text;
    case Scheme::kS3:
      break;
  }
  // The folder of an object, or the prefix itself.
  std::string folder = one_file ? path.substr(0, path.size() - BaseName(path).size()) : path;
  while (folder.ends_with('/')) folder.pop_back();
  return StrCat("s3://", source->root, "/", folder);
}

// Files that another source left under the plan's names are neither taken for its own, nor
// replaced or removed.
absl::Status CheckOwner(const Plan& plan) {
  const std::string us = Identity(plan.manifest.source, plan.one_file);
  const auto refuse = [](const std::string& path, const Manifest& owner) {
    return absl::FailedPreconditionError(
        StrCat(path, " was pulled from ", Printable(owner.source, 256),
               ": give --output another folder, or remove it first"));
  };
  const Manifest set = ReadManifest(ManifestOfFolder(plan.folder));
  const bool theirs = !set.source.empty() && Identity(set.source, false) != us;
  if (theirs && !plan.one_file) return refuse(plan.folder, set);
  for (const RemoteFile& file : plan.files) {
    const std::string path = plan.folder + "/" + file.name;
    if (theirs && std::any_of(set.files.begin(), set.files.end(),
                              [&](const Manifest::File& one) { return one.name == file.name; })) {
      return refuse(path, set);
    }
    const Manifest alone = ReadManifest(ManifestOfFile(path));
    if (!alone.source.empty() && Identity(alone.source, true) != us) return refuse(path, alone);
  }
  return absl::OkStatus();
}

// Whether the source still has what it had when it gave `validator`. A request of a few bytes.
bool IsUnchanged(const RemoteFile& file, const std::string& validator, const PullOptions& options,
                 const std::atomic<bool>* stop) {
  Request request = {file.url, "GET", file.headers, {}, options.timeout};
  // A tag is quoted (RFC 9110, 8.8.3); a date is not.
  const bool tag = validator.starts_with('"') || validator.starts_with("W/");
  request.headers.push_back(StrCat(tag ? "If-None-Match: " : "If-Modified-Since: ", validator));
  if (file.auth) {
    auto auth = file.auth();
    if (!auth.ok()) return false;
    request.auth = *std::move(auth);
  }
  const auto head = FetchHead(request, options.retries, stop);
  return head.ok() && head->status == 304;
}

// Whether the file is here already: by its checksum, which an earlier manifest vouches for or which
// is computed; without one, when a manifest knows size and validator and the source confirms them.
bool IsHere(const Plan& plan, const RemoteFile& file, const Manifest& before,
            const PullOptions& options, const std::atomic<bool>* stop) {
  const std::string path = plan.folder + "/" + file.name;
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  if (error || (file.size_bytes >= 0 && size != file.size_bytes)) return false;
  const auto record =
      std::find_if(before.files.begin(), before.files.end(),
                   [&](const Manifest::File& one) { return one.name == file.name; });
  const bool recorded = record != before.files.end() && record->bytes == size;
  if (file.checksum) {
    const bool vouched = recorded && before.complete && record->checksum == file.checksum->Text();
    return vouched || CheckFile(path, *file.checksum, stop).ok();
  }
  return recorded && !record->validator.empty() &&
         IsUnchanged(file, record->validator, options, stop);
}

// Files of the set as it was, which the source has no more.
void RemoveStale(const Plan& plan, const Manifest& before) {
  for (const Manifest::File& old : before.files) {
    const bool kept = std::any_of(plan.files.begin(), plan.files.end(),
                                  [&](const RemoteFile& file) { return file.name == old.name; });
    std::error_code ignored;
    if (!kept) fs::remove(plan.folder + "/" + old.name, ignored);
  }
}

}  // namespace

absl::StatusOr<PullResult> Pull(const PullOptions& options, const std::string& cache,
                                const std::atomic<bool>* stop,
                                const std::function<void(const DownloadEvent&)>& observer) {
  TRIREME_ASSIGN_OR_RETURN(const Source source, ParseSource(options.source));
  if (!options.revision.empty() && !IsSafePath(options.revision)) {
    return absl::InvalidArgumentError(
        StrCat("--revision: \"", Printable(options.revision), "\" is no branch, tag or commit"));
  }
  const std::string target = TargetOf(source, options.revision, cache);
  if (IsOffline(options)) {
    if (const auto found = FindPulled(source, target); found.ok()) return PullResult{found->path};
    return absl::FailedPreconditionError(
        StrCat(source.text,
               " is not here, and the network is not asked (--offline, "
               "TRIREME_OFFLINE, HF_HUB_OFFLINE): ",
               OfflineAdvice(source, target)));
  }
  const auto advise = [&](const absl::Status& status) {
    if (ErrorCode(status) != kUnreachableCode) return status;
    return absl::UnavailableError(
        StrCat(FromAbsl(status.message()), ". Without a network: ", OfflineAdvice(source, target)));
  };
  auto listing = List(source, options, stop);
  if (!listing.ok()) return advise(listing.status());
  TRIREME_ASSIGN_OR_RETURN(Plan plan, MakePlan(source, options, *std::move(listing), target));
  TRIREME_ASSIGN_OR_RETURN(const FolderLock lock, FolderLock::Take(plan.folder));

  PullResult result = {plan.folder, plan.manifest.revision, static_cast<int>(plan.files.size())};
  TRIREME_RETURN_IF_ERROR(CheckOwner(plan));
  const std::string manifest_path = ManifestPath(plan);
  const Manifest before = ReadManifest(manifest_path);
  std::vector<RemoteFile> missing;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    if (!IsHere(plan, plan.files[i], before, options, stop)) {
      missing.push_back(plan.files[i]);
      continue;
    }
    for (const Manifest::File& old : before.files) {
      if (old.name == plan.files[i].name) plan.manifest.files[i].validator = old.validator;
    }
  }
  if (*stop) return absl::CancelledError("interrupted");
  result.kept_files = result.files - static_cast<int>(missing.size());
  if (!plan.one_file && !missing.empty())
    TRIREME_RETURN_IF_ERROR(WriteManifest(manifest_path, plan.manifest));
  const DownloadOptions download = {plan.folder,     options.jobs, options.retries,
                                    options.timeout, stop,         FreeBytes};
  const absl::Status downloaded = Download(missing, download, [&](const DownloadEvent& event) {
    result.fetched_bytes = std::max(result.fetched_bytes, event.fetched_bytes);
    result.retries = event.retries;
    for (Manifest::File& file : plan.manifest.files) {
      if (event.kind == DownloadEvent::Kind::kFileDone && file.name == event.file)
        file.validator = event.validator;
    }
    observer(event);
  });
  if (!downloaded.ok()) return advise(downloaded);
  for (Manifest::File& file : plan.manifest.files) {
    std::error_code error;
    file.bytes = static_cast<int64_t>(fs::file_size(plan.folder + "/" + file.name, error));
    result.bytes += file.bytes;
  }
  if (plan.one_file || (plan.files.size() == 1 && plan.files[0].name.ends_with(".gguf")))
    result.path = plan.folder + "/" + plan.files[0].name;
  if (!plan.one_file) RemoveStale(plan, before);
  plan.manifest.complete = true;
  TRIREME_RETURN_IF_ERROR(WriteManifest(manifest_path, plan.manifest));
  return result;
}

}  // namespace trireme::pull
