// What a source offers, and which of it is a model.
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/pull/file_download.h"
#include "server/pull/source.h"

namespace trireme::pull {

// A hostile listing ends here.
inline constexpr size_t kMaxListedFiles = 100'000;
inline constexpr size_t kMaxListingBytes = 32 << 20;
inline constexpr size_t kMaxModelFiles = 2'000;

struct Listing {
  std::string revision;           // hf: the commit that was listed; else empty
  std::vector<RemoteFile> files;  // only names that are IsSafePath
};

struct ListOptions {
  std::string revision;  // hf
  int retries = 5;
  absl::Duration timeout = absl::Seconds(30);
  const std::atomic<bool>* stop = nullptr;
};

// The files of a Hugging Face repository at one revision (GET /api/models/ORG/NAME/revision/REV).
// HF_ENDPOINT and HF_TOKEN are read. https://huggingface.co/docs/hub/api
absl::StatusOr<Listing> ListHuggingFace(const Source& source, const ListOptions& options);

// The hub's answer to that request. `common`: what every file of the listing shares. Names that are
// not IsSafePath are passed over. Untrusted input.
absl::StatusOr<Listing> ReadHubListing(const std::string& body, const std::string& endpoint,
                                       const Source& source, const RemoteFile& common);

// One page of ListObjectsV2: appends its keys, as they are; the token of the next page, empty after
// the last. Untrusted input.
absl::StatusOr<std::string> ReadS3Page(const std::string& body, std::vector<std::string>* keys);

// The object, or the objects directly below the prefix (ListObjectsV2, HeadObject). A path that
// ends in no '/' is an object when there is one, else a prefix.
absl::StatusOr<Listing> ListS3(const Source& source, const ListOptions& options);

// Of a listing, what a model consists of: safetensors with their index, tokenizer and config; or
// the one GGUF. `file`, when not empty, is taken alone. Never a pickle, which runs code when it is
// read. NOT_FOUND or FAILED_PRECONDITION say what there is instead.
absl::StatusOr<std::vector<RemoteFile>> SelectModelFiles(std::vector<RemoteFile> files,
                                                         std::string_view file);

}  // namespace trireme::pull
