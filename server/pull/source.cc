#include "server/pull/source.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::pull {
namespace {

constexpr std::string_view kHuggingFace = "hf://", kS3 = "s3://", kHttps = "https://";
constexpr size_t kMaxPathBytes = 512;

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool ConsistsOf(std::string_view text, std::string_view others) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return IsAlphanumeric(c) || others.find(c) != others.npos;
  });
}

absl::Status Wanted(std::string_view text, std::string_view form) {
  return absl::InvalidArgumentError(
      StrCat("\"", Printable(text, 128), "\" is no source: write ", form));
}

// Takes what stands before the first `separator`, and the separator.
std::string_view TakeUntil(char separator, std::string_view* text) {
  const size_t end = std::min(text->find(separator), text->size());
  const std::string_view taken = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return taken;
}

absl::StatusOr<Source> ParseHuggingFace(std::string_view text, std::string_view rest) {
  constexpr std::string_view kForm = "hf://ORG/NAME[@REVISION][/FILE]";
  const std::string_view organisation = TakeUntil('/', &rest);
  std::string_view name = TakeUntil('/', &rest);
  const std::string_view whole = name;
  const std::string_view bare = TakeUntil('@', &name);
  Source source = {Scheme::kHuggingFace, std::string(text), StrCat(organisation, "/", bare),
                   std::string(name), std::string(rest)};
  const bool revision_ok = bare.size() == whole.size() || ConsistsOf(name, "._-");
  if (!ConsistsOf(organisation, "._-") || !ConsistsOf(bare, "._-") || !revision_ok ||
      !IsSafePath(source.root) || (!rest.empty() && !IsSafePath(rest)) ||
      (!name.empty() && !IsSafePath(name))) {
    return Wanted(text, kForm);
  }
  return source;
}

absl::StatusOr<Source> ParseS3(std::string_view text, std::string_view rest) {
  const std::string_view bucket = TakeUntil('/', &rest);
  std::string_view key = rest;
  if (key.ends_with('/')) key.remove_suffix(1);
  if (!ConsistsOf(bucket, ".-") || !IsSafePath(bucket) || (!rest.empty() && !IsSafePath(key)))
    return Wanted(text, "s3://BUCKET/KEY, or s3://BUCKET/PREFIX/ for the files below it");
  return Source{Scheme::kS3, std::string(text), std::string(bucket), "", std::string(rest)};
}

absl::StatusOr<Source> ParseHttps(std::string_view text, std::string_view rest) {
  const std::string_view host = TakeUntil('/', &rest);
  const size_t end = std::min(rest.find_first_of("?#"), rest.size());
  const std::string_view path = rest.substr(0, end);
  std::string_view query = rest.substr(end);
  query = query.substr(0, query.find('#'));
  if (!ConsistsOf(host, ".-:[]") || !IsSafePath(host) || !IsSafePath(path))
    return Wanted(text.substr(0, text.find('?')), "https://HOST/PATH of one file");
  return Source{Scheme::kHttps,    StrCat(kHttps, host, "/", path),
                std::string(host), "",
                std::string(path), std::string(query)};
}

std::string Encode(std::string_view text, std::string_view kept) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (IsAlphanumeric(c) || kept.find(c) != kept.npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

}  // namespace

bool IsSource(std::string_view model) {
  return model.starts_with(kHuggingFace) || model.starts_with(kS3) || model.starts_with(kHttps);
}

absl::StatusOr<Source> ParseSource(std::string_view text) {
  if (text.starts_with(kHuggingFace))
    return ParseHuggingFace(text, text.substr(kHuggingFace.size()));
  if (text.starts_with(kS3)) return ParseS3(text, text.substr(kS3.size()));
  if (text.starts_with(kHttps)) return ParseHttps(text, text.substr(kHttps.size()));
  return Wanted(text, "hf://ORG/NAME, s3://BUCKET/KEY or https://HOST/PATH");
}

bool IsSafePath(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  if (Printable(path, path.size()) != path) return false;  // a backslash comes out doubled
  for (const absl::string_view part : absl::StrSplit(ToAbsl(path), '/')) {
    if (part.empty() || part.front() == '.' || part.size() > 200) return false;
  }
  return true;
}

std::string_view BaseName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string UrlEncodePath(std::string_view path) { return Encode(path, "-._~/"); }
std::string UrlEncode(std::string_view text) { return Encode(text, "-._~"); }

}  // namespace trireme::pull
