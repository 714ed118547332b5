// What a hub and a bucket list: refused in words, or files with safe names and bounded sizes, of
// which the same are selected every time.
#include "runtime/base/strings.h"
#include "server/pull/listing.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

using pull::RemoteFile;

void CheckFiles(const std::vector<RemoteFile>& files) {
  FUZZ_CHECK(files.size() <= pull::kMaxListedFiles, "");
  for (const RemoteFile& file : files) {
    FUZZ_CHECK(pull::IsSafePath(file.name), file.name);
    FUZZ_CHECK(Printable(file.name, file.name.size()) == file.name, file.name);
    FUZZ_CHECK(!file.checksum || !file.checksum->hex.empty(), file.name);
  }
  const auto selected = pull::SelectModelFiles(files, "");
  if (!selected.ok()) return CheckError(selected.status());
  FUZZ_CHECK(!selected->empty() && selected->size() <= files.size(), "");
}

}  // namespace

void OneInput(std::string_view data) {
  const std::string body(data);
  static const pull::Source source = pull::ParseSource("hf://org/name").value();
  const auto listing = pull::ReadHubListing(body, "https://hub.example", source, RemoteFile());
  if (listing.ok()) {
    FUZZ_CHECK(pull::IsSafePath(listing->revision), listing->revision);
    for (const RemoteFile& file : listing->files)
      FUZZ_CHECK(file.url.starts_with("https://hub.example/org/name/resolve/"), file.url);
    CheckFiles(listing->files);
  } else {
    CheckError(listing.status());
  }
  std::vector<std::string> keys;
  const auto next = pull::ReadS3Page(body, &keys);
  if (!next.ok()) return CheckError(next.status());
  std::vector<RemoteFile> files;
  for (const std::string& key : keys) {
    if (pull::IsSafePath(key)) files.emplace_back().name = key;
  }
  CheckFiles(files);
}

}  // namespace trireme::fuzz
