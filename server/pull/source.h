// What `trireme pull` is asked for: a model named by a URL of ours.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme::pull {

enum class Scheme { kHuggingFace, kS3, kHttps };

// hf://ORG/NAME[@REVISION][/FILE], s3://BUCKET/KEY-OR-PREFIX, https://HOST[:PORT]/PATH[?QUERY].
// Every part is safe as a relative path: checked by IsSafePath.
struct Source {
  Scheme scheme = Scheme::kHttps;
  std::string text;      // as it was given; names the source in messages, without a query
  std::string root;      // "ORG/NAME", the bucket, or "HOST[:PORT]"
  std::string revision;  // hf only; empty: none was given
  std::string path;      // hf: FILE or empty. s3: key or prefix ("" or ".../"), https: path
  std::string query;     // https: "?..." or empty; often a secret
};

// Whether a MODEL is such a name and no path.
bool IsSource(std::string_view model);

// INVALID_ARGUMENT says which form is wanted.
absl::StatusOr<Source> ParseSource(std::string_view text);

// A relative path of plain components: no "..", ".", empty or hidden component, nothing
// that Printable escapes (controls, what turns text around, bytes that are no UTF-8, the
// backslash), at most 512 bytes. Names of listings and sources pass it before they
// become files.
bool IsSafePath(std::string_view path);

std::string_view BaseName(std::string_view path);

// Percent-encoding (RFC 3986) of what is not unreserved; '/' stays.
std::string UrlEncodePath(std::string_view path);
// The same, but '/' is encoded, too.
std::string UrlEncode(std::string_view text);

}  // namespace trireme::pull
